//! Serves a directory: `serve DIR ADDRESS:PORT`. Takes uploads. Ends at Ctrl-C.

use std::sync::Arc;

use tidegate_http::{Durability, Server, StaticFiles, StaticOptions, Uploads};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut words = std::env::args().skip(1);
    let (Some(dir), Some(address)) = (words.next(), words.next()) else {
        return Err("serve DIR ADDRESS:PORT".into());
    };
    let mut options = StaticOptions::default();
    options.uploads = Uploads::Taken(Durability::Renamed);
    let files = StaticFiles::new(dir.as_ref(), options)?;
    let address: std::net::SocketAddr = address.parse()?;
    let threads: Vec<_> = (0..2).map(|_| {
        let files = files.clone();
        std::thread::spawn(move || {
            let rt = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            rt.block_on(async {
                let socket = tokio::net::TcpSocket::new_v4().unwrap();
                socket.set_reuseport(true).unwrap();
                socket.bind(address).unwrap();
                let server = Server::from_tcp(socket.listen(1024).unwrap());
                let ended = async {
                    let _ = tokio::signal::ctrl_c().await;
                };
                let served = server.run(Arc::new(files), ended).await;
                println!("{served:?}");
            });
        })
    }).collect();
    for t in threads { t.join().unwrap(); }
    Ok(())
}
