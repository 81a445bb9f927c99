//! Serves a directory: `http_server DIR ADDRESS:PORT`. Takes uploads. Ends at Ctrl-C.

use std::sync::Arc;

use tidegate_http::{Durability, Server, StaticFiles, StaticOptions, Uploads};

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut words = std::env::args().skip(1);
    let (Some(dir), Some(address)) = (words.next(), words.next()) else {
        return Err("http_server DIR ADDRESS:PORT".into());
    };
    let mut options = StaticOptions::default();
    options.uploads = Uploads::Taken(Durability::Renamed);
    let files = StaticFiles::new(dir.as_ref(), options)?;
    let server = Server::bind(&address)
        .await?
        .threads(std::thread::available_parallelism()?);
    let ended = async {
        let _ = tokio::signal::ctrl_c().await;
    };
    let served = server.run(Arc::new(files), ended).await;
    println!("{served:?}");
    Ok(())
}
