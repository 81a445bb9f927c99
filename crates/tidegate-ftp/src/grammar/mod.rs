//! The grammar of FTP: command lines, replies, addresses, facts, times and paths.
//!
//! Pure: bytes in, values out. Knows no socket, no file and no session.

pub mod address;
pub mod command;
pub mod facts;
pub mod line;
pub mod path;
pub mod reply;
pub mod time;

pub use address::EpsvArgument;
pub use command::{Command, CommandError};
pub use facts::{Fact, FactSet, Facts, Kind};
pub use line::{LineError, Lines};
pub use path::{PathError, VirtualPath};
pub use reply::{Replies, Reply, ReplyError};
