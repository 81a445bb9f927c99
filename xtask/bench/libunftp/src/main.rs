//! `tidegate-bench-libunftp DIR PORT`: libunftp with its file system back end, for anonymous users who may write.
//!
//! Knows nothing of Tidegate. Run by `cargo xtask bench ftp` beside the other servers.
#![forbid(unsafe_code)]

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<String> = std::env::args().collect();
    let [_, directory, port] = arguments.as_slice() else {
        return Err("usage: tidegate-bench-libunftp DIR PORT".into());
    };
    let address = format!("127.0.0.1:{port}");
    let root = directory.clone();
    let server = libunftp::ServerBuilder::new(Box::new(move || {
        unftp_sbe_fs::Filesystem::new(root.clone()).expect("the directory to serve")
    }));
    Ok(server.greeting("libunftp").build()?.listen(address).await?)
}
