//! Perspective Broker: banana, the needed part of jelly, the broker, pagers and the page collector.
//!
//! Knows Twisted's protocol from the bytes up; knows nothing of files, users or the program.
//!
//! [`banana`] and [`jelly`] are pure codecs. [`client`] and [`server`] drive one connection each and give a [`Broker`]: lend
//! it objects, call the peer's. [`page_file`] is a core consumer whose bytes travel as pages; [`collect_into`] and
//! [`get_all_pages`] take pages in.
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
