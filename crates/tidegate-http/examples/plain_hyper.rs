//! A static file server as one writes it with hyper alone: `tokio::fs` for each request, bodies in 64 KiB frames, a PUT
//! read and thrown away; to a path that begins with `/file` written; to one that begins with `/synced` written and synced.
//!
//! It is what `cargo xtask bench http` measures this crate against, and uses nothing of it. Not a server to keep: any
//! `..` in a path is refused and that is all the care there is.

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode};
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::fs::File;
use tokio::io::{AsyncRead, AsyncWriteExt, ReadBuf};

const FRAME_BYTES: usize = 64 * 1024;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut words = std::env::args().skip(1);
    let (Some(dir), Some(address)) = (words.next(), words.next()) else {
        return Err("plain_hyper DIR ADDRESS:PORT".into());
    };
    let address: SocketAddr = address.parse()?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(serve(dir.into(), address))?;
    Ok(())
}

async fn serve(dir: PathBuf, address: SocketAddr) -> io::Result<()> {
    let dir = Arc::new(dir);
    let listener = tokio::net::TcpListener::bind(address).await?;
    loop {
        let (stream, _) = listener.accept().await?;
        stream.set_nodelay(true)?;
        let dir = Arc::clone(&dir);
        tokio::spawn(async move {
            let service = service_fn(move |request| answer(Arc::clone(&dir), request));
            let connection =
                hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service);
            let _ = connection.await;
        });
    }
}

async fn answer(dir: Arc<PathBuf>, request: Request<Incoming>) -> io::Result<Response<FileBody>> {
    let name = request.uri().path().trim_start_matches('/').to_owned();
    let mut answer = Response::new(FileBody { file: None, left: 0 });
    if name.contains("..") {
        *answer.status_mut() = StatusCode::BAD_REQUEST;
    } else if *request.method() == Method::PUT {
        let synced = name.starts_with("synced");
        let to = if synced || name.starts_with("file") {
            Some(File::create(dir.join(name)).await?)
        } else {
            None
        };
        let to = receive(request.into_body(), to).await?;
        if let Some(file) = to.filter(|_| synced) {
            file.sync_all().await?;
        }
        *answer.status_mut() = StatusCode::CREATED;
    } else {
        match File::open(dir.join(name)).await {
            Ok(file) => {
                let left = file.metadata().await?.len();
                *answer.body_mut() = FileBody {
                    file: Some(file),
                    left,
                };
            }
            Err(_) => *answer.status_mut() = StatusCode::NOT_FOUND,
        }
    }
    Ok(answer)
}

async fn receive(mut body: Incoming, mut to: Option<File>) -> io::Result<Option<File>> {
    while let Some(frame) = std::future::poll_fn(|cx| Pin::new(&mut body).poll_frame(cx)).await {
        if let (Some(file), Ok(data)) = (&mut to, frame.map_err(io::Error::other)?.into_data()) {
            file.write_all(&data).await?;
        }
    }
    if let Some(file) = &mut to {
        file.flush().await?;
    }
    Ok(to)
}

/// A file, read as hyper asks for it.
struct FileBody {
    file: Option<File>,
    left: u64,
}

impl Body for FileBody {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        let this = self.get_mut();
        let Some(file) = &mut this.file else {
            return Poll::Ready(None);
        };
        let mut space = vec![0; FRAME_BYTES];
        let mut buffer = ReadBuf::new(&mut space);
        ready!(Pin::new(file).poll_read(cx, &mut buffer))?;
        let got = buffer.filled().len();
        if got == 0 {
            return Poll::Ready(None);
        }
        this.left = this.left.saturating_sub(got as u64);
        space.truncate(got);
        Poll::Ready(Some(Ok(Frame::data(space.into()))))
    }

    fn is_end_stream(&self) -> bool {
        self.left == 0
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.left)
    }
}
