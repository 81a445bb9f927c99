//! Delivers files as messages, one after another: `deliver MAILDIR FILE...`.
//!
//! Prints the name of each file once its message is durable: whoever reads a line can forget the file. Leaves out flags,
//! folders and limits.

use std::error::Error;
use std::io::Write;

use tidegate_io::Flow;
use tidegate_io::endpoint::file::FileSource;
use tidegate_maildir::{Options, sink};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let mut args = std::env::args().skip(1);
    let mailbox = args.next().ok_or("usage: deliver MAILDIR FILE...")?;
    for file in args {
        let source = FileSource::open(&file).await?;
        let report = Flow::new(source, sink(&mailbox, Options::default()))
            .run()
            .await?;
        println!("{file} {}", report.bytes_confirmed);
        std::io::stdout().flush()?;
    }
    Ok(())
}
