//! Perspective Broker: banana, the needed part of jelly, the broker, pagers and the page collector.
//!
//! Knows Twisted's protocol from the bytes up; knows nothing of files, users or the program.
//!
//! [`banana`] and [`jelly`] are pure codecs. [`client`] and [`server`] drive one connection each and give a [`Broker`]: lend
//! it objects, call the peer's. [`page_file`] is a core consumer whose bytes travel as pages; [`collect_into`] and
//! [`get_all_pages`] take pages in.
//!
//! ```
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # use std::sync::Arc;
//! # use tokio::net::{TcpListener, TcpStream};
//! use tidegate_pb::{Call, Options, PAGE_BYTES, Referenceable, RemoteError, jelly::Value};
//!
//! /// Pages the same text to every collector it is given.
//! struct Root;
//! impl Referenceable for Root {
//!     fn call(&self, call: Call) {
//!         let collector = call.args.first().and_then(|value| call.reference(value));
//!         let Some(collector) = collector else {
//!             return call.responder.fail(RemoteError::new("TypeError", "a collector is wanted"));
//!         };
//!         drop(tidegate_pb::page_string(&collector, "all of it".into(), PAGE_BYTES));
//!         call.responder.answer(Value::None);
//!     }
//! }
//!
//! let listener = TcpListener::bind("127.0.0.1:0").await?;
//! let near = TcpStream::connect(listener.local_addr()?).await?;
//! let (far, _) = listener.accept().await?;
//! let root: Arc<dyn Referenceable> = Arc::new(Root);
//! let (_, serving) = tidegate_pb::server(far, Options { root: Some(root), ..Options::default() });
//! tokio::spawn(serving);
//! let (broker, driving) = tidegate_pb::client(near, Options::default());
//! tokio::spawn(driving);
//! let pages = tidegate_pb::get_all_pages(&broker.root(), "text", vec![], 1 << 20).await?;
//! assert_eq!(pages.concat(), b"all of it");
//! # Ok(())
//! # }
//! ```
#![forbid(unsafe_code)]

pub mod banana;
mod broker;
mod collector;
mod connection;
mod endpoint;
mod error;
mod integer;
pub mod jelly;
mod kept;
mod login;
mod message;
mod mux;
mod pager;
mod reads;
mod reference;
mod watch;

pub use broker::{Broker, Call, Referenceable, Responder};
pub use collector::{collect_into, get_all_pages};
pub use connection::{CLOSE_DEADLINE, Options, STALL_LIMIT, client, server};
pub use endpoint::{FetchSource, ServeSink, fetch, listen, serve};
pub use error::{PbError, RemoteError};
pub use integer::{Integer, Sign};
pub use login::{Credentials, HashedPassword, Portal, login, login_anonymous, portal_root};
pub use pager::{PAGE_BYTES, Paging, PagingEnd, page_file, page_from, page_string};
pub use reference::{Answer, Reference};
