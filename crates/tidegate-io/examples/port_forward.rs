//! Forwards every connection on one address to another: `port_forward 127.0.0.1:9000 127.0.0.1:80`.
//!
//! Knows nothing but addresses: what one side sends waits while the other is slow, an end is passed on after the last
//! byte, and a side that is cut cuts the other.

use std::sync::Arc;

use tidegate::ConsumerProtocol;
use tidegate_io::endpoint::tcp;
use tidegate_io::transport::{Settings, open};

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let (Some(from), Some(to)) = (arguments.next(), arguments.next()) else {
        return Err("usage: port_forward FROM TO".into());
    };
    let listener = tcp::Listener::bind(&from).await?;
    println!("{}", listener.local_addr()?);
    loop {
        let (near, peer) = listener.accept().await?;
        let to = to.clone();
        tokio::spawn(async move {
            match tcp::connect(&to, tcp::CONNECT_TIMEOUT_DEFAULT).await {
                Ok(far) => {
                    let (near, forth) = open(tcp::duplex(near), Settings::default());
                    let (far, back) = open(tcp::duplex(far), Settings::default());
                    let forth = forth.run(Arc::new(ConsumerProtocol::new(far)));
                    let back = back.run(Arc::new(ConsumerProtocol::new(near)));
                    let (forth, back) = tokio::join!(forth, back);
                    eprintln!("{peer}: {forth}; {to}: {back}");
                }
                Err(error) => eprintln!("{peer}: {error}"),
            }
        });
    }
}
