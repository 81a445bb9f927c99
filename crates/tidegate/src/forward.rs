//! Methods that hand a call on to a field: what every type that stands on a stage, or on another consumer, has in common.
//!
//! Knows no type and decides nothing. Whoever uses it names the field and the methods, so that what is *not* handed on
//! stands out in the type's own file.

/// `forward!(field: method method ...);` inside an `impl` block.
macro_rules! forward {
    ($field:ident: $($method:ident)+) => {
        $($crate::forward::forward!(@ $field $method);)+
    };
    (@ $field:ident register_producer) => {
        fn register_producer(&self, producer: $crate::Producer) -> Result<(), $crate::AlreadyRegistered> {
            self.$field.register_producer(producer)
        }
    };
    (@ $field:ident unregister_producer) => {
        fn unregister_producer(&self) {
            self.$field.unregister_producer();
        }
    };
    (@ $field:ident write) => {
        fn write(&self, data: ::bytes::Bytes) -> Result<$crate::Pressure, $crate::WriteError> {
            self.$field.write(data)
        }
    };
    (@ $field:ident write_list) => {
        fn write_list(
            &self,
            data: Vec<::bytes::Bytes>,
        ) -> Result<$crate::Pressure, $crate::WriteError<Vec<::bytes::Bytes>>> {
            self.$field.write_list(data)
        }
    };
    (@ $field:ident finish) => {
        fn finish(&self) {
            self.$field.finish();
        }
    };
    (@ $field:ident abort) => {
        fn abort(&self, reason: $crate::AbortReason) {
            self.$field.abort(reason);
        }
    };
    (@ $field:ident outcome) => {
        /// How the stream ends.
        pub fn outcome(&self) -> $crate::Outcome {
            self.$field.outcome()
        }
    };
    (@ $field:ident hold) => {
        /// One more reason for the producer not to run, until the guard is dropped.
        pub fn hold(&self, reason: $crate::HoldReason) -> $crate::Hold {
            self.$field.hold(reason)
        }
    };
    (@ $field:ident held) => {
        /// Bytes accepted and not yet taken from below.
        pub fn held(&self) -> usize {
            self.$field.held()
        }
    };
}

/// `Debug` with the name and what is held.
macro_rules! debug_held {
    ($($type:ident)+) => {
        $(impl std::fmt::Debug for $type {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.debug_struct(stringify!($type))
                    .field("held", &self.held())
                    .finish_non_exhaustive()
            }
        })+
    };
}

pub(crate) use {debug_held, forward};
