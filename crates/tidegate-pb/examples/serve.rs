//! Serves one file as Perspective Broker pages to the first client that asks: `serve ADDRESS NAME FILE`.
//!
//! To Twisted this is `getAllPages(root, NAME)`. Leaves out logins, several clients and everything but the file.

use std::error::Error;

use tidegate_io::Flow;
use tidegate_io::endpoint::file::FileSource;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [address, name, file] = &args[..] else {
        return Err("usage: serve ADDRESS NAME FILE".into());
    };
    let sink = tidegate_pb::listen(&address[..], &name[..]).await?;
    println!("port {}", sink.address().port());
    let report = Flow::new(FileSource::open(&file[..]).await?, sink).run().await?;
    println!("sent {} {:?}", report.bytes_sent, report.confirmation);
    Ok(())
}
