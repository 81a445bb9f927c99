//! Fetches Perspective Broker pages into a file: `fetch HOST PORT NAME FILE`.
//!
//! Calls NAME on the server's root object with a page collector. The file appears under its name only when the peer has
//! said that the pages are complete.

use std::error::Error;

use tidegate_io::Flow;
use tidegate_io::endpoint::file::{FileSink, Overwrite};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [host, port, name, file] = &args[..] else {
        return Err("usage: fetch HOST PORT NAME FILE".into());
    };
    let source = tidegate_pb::fetch(&host[..], port.parse()?, &name[..]);
    let sink = FileSink::create(&file[..], Overwrite::Allow).await?;
    let report = Flow::new(source, sink).run().await?;
    println!("fetched {}", report.bytes_sent);
    Ok(())
}
