//! `tidegate serve http|ftp DIR`: hands the options to the servers of the protocol crates and obeys signals.
//!
//! Knows no protocol.

use std::future::Future;

use tidegate_io::endpoint::tcp;
use tokio::sync::oneshot;

use crate::args::{OutputArgs, Serve};
use crate::config::Defaults;
use crate::exit::Exit;
use crate::logging;
use crate::report::Failure;
use crate::settings::OutputSettings;
use crate::signals::{self, Ending, Signals, Wish};

/// Runs the command.
pub(crate) fn run(serve: &Serve) -> Exit {
    let output = match serve {
        Serve::Http(args) => &args.output,
        Serve::Ftp(args) => &args.output,
    };
    match start(serve, output) {
        Ok(exit) => exit,
        Err(failure) => crate::fail(&failure, output),
    }
}

fn start(serve: &Serve, output: &OutputArgs) -> Result<Exit, Failure> {
    let usage = |error: anyhow::Error| Failure::usage(format!("{error:#}"));
    let config = crate::config::Config::load(output.config.as_deref()).map_err(usage)?;
    let defaults: &Defaults = &config.defaults;
    let settings = OutputSettings::resolve(output, None, defaults).map_err(usage)?;
    logging::start(logging::Kind::Service, &settings);
    crate::descriptors::raise_limit();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|error| crate::other(format!("cannot start: {error}")))?;
    let result = match serve {
        #[cfg(feature = "http")]
        Serve::Http(args) => runtime.block_on(http::serve(args)),
        #[cfg(feature = "ftp")]
        Serve::Ftp(args) => runtime.block_on(ftp::serve(args)),
        #[cfg(not(all(feature = "http", feature = "ftp")))]
        _ => Err(Failure::usage("this server was left out of this build")),
    };
    runtime.shutdown_background();
    result
}

/// How a server ended.
enum Ended {
    /// Everything under way was finished.
    Whole,
    /// Something had to be cut.
    Cut,
}

/// Runs a server until it ends: the first signal tells it to, the second does not wait.
async fn obey<F>(mut signals: Signals, run: impl FnOnce(oneshot::Receiver<()>) -> F) -> Exit
where
    F: Future<Output = Ended>,
{
    let (tell, told) = oneshot::channel();
    let mut tell = Some(tell);
    let mut ending: Option<Ending> = None;
    let running = run(told);
    tokio::pin!(running);
    loop {
        tokio::select! {
            ended = &mut running => return match (ended, ending) {
                (Ended::Cut, Some(ending)) => ending.exit(),
                (Ended::Cut, None) => Exit::Other,
                (Ended::Whole, _) => Exit::Ok,
            },
            wish = signals.next() => match wish {
                Wish::End(by) => match tell.take() {
                    Some(tell) => {
                        ending = Some(by);
                        tracing::info!("ending: waiting for transfers; once more cuts them");
                        let _ = tell.send(());
                    }
                    None => return by.exit(),
                },
                Wish::Suspend => signals::suspend(),
                Wish::Look | Wish::Continue => {}
            },
        }
    }
}

fn signals() -> Result<Signals, Failure> {
    Signals::new().map_err(|error| crate::other(format!("cannot listen to signals: {error}")))
}

async fn listen(address: &str) -> Result<tokio::net::TcpListener, Failure> {
    check_address(address)?;
    let listener = tcp::Listener::bind(address).await;
    listener
        .map(tcp::Listener::into_inner)
        .map_err(|error| cannot(error.to_string()))
}

/// A server that cannot listen or has nothing to serve: what it would have written to could not be opened.
fn cannot(message: String) -> Failure {
    Failure {
        exit: Exit::SinkOpen,
        side: None,
        message,
        report: None,
    }
}

fn check_address(address: &str) -> Result<(), Failure> {
    let text = format!("tcp-listen://{address}");
    crate::address::Address::parse(text.as_ref())
        .map(|_| ())
        .map_err(|error| Failure::usage(format!("--listen {address}: {}", error.what)))
}

#[cfg(feature = "http")]
mod http {
    use std::sync::Arc;

    use tidegate_http::{Durability, Limits, Server, StaticFiles, StaticOptions, Uploads};

    use super::{Ended, cannot, listen, obey, signals};
    use crate::args::{DurabilityArg, ServeHttpArgs, TlsArgs};
    use crate::exit::Exit;
    use crate::open::tls;
    use crate::report::Failure;

    pub(super) async fn serve(args: &ServeHttpArgs) -> Result<Exit, Failure> {
        let signals = signals()?;
        let mut options = StaticOptions::default();
        if args.writable {
            options.uploads = Uploads::Taken(match args.durability {
                None | Some(DurabilityArg::Synced) => Durability::Synced,
                Some(DurabilityArg::Cached) => Durability::Renamed,
            });
        }
        let files = StaticFiles::new(&args.dir, options).map_err(|error| cannot(error.to_string()))?;
        let mut limits = Limits::default();
        if let Some(stall) = args.stall {
            limits.stall_timeout = stall;
        }
        if let Some(drain) = args.drain {
            limits.drain_timeout = drain;
        }
        if let Some(most) = args.max_connections {
            limits.connections_max = most as usize;
        }
        let listener = listen(&args.listen).await?;
        let mut server = Server::from_tcp(listener).limits(limits);
        if let Ok(threads) = std::thread::available_parallelism() {
            server = server.threads(threads);
        }
        let mut scheme = "http";
        if args.cert.is_some() {
            let files = TlsArgs {
                cert: args.cert.clone(),
                key: args.key.clone(),
                ..TlsArgs::default()
            };
            let config = tls::server_config(&files).map_err(|error| cannot(error.to_string()))?;
            server = server.tls(config.as_ref().clone());
            scheme = "https";
        }
        if let Some(at) = server.local_addr() {
            tracing::info!("serving {} on {scheme}://{at}/", args.dir.display());
        }
        let run = |told: tokio::sync::oneshot::Receiver<()>| async move {
            let served = server.run(Arc::new(files), async move { drop(told.await) }).await;
            if served.cut > 0 { Ended::Cut } else { Ended::Whole }
        };
        Ok(obey(signals, run).await)
    }
}

#[cfg(feature = "ftp")]
mod ftp {
    use tidegate_ftp::server::{Anonymous, ServeOptions, Server, Tls};
    use tidegate_ftp::storage::Access;
    use tidegate_ftp::users::Users;

    use super::{Ended, cannot, listen, obey, signals};
    use crate::args::{ServeFtpArgs, TlsArgs};
    use crate::exit::Exit;
    use crate::open::tls;
    use crate::report::Failure;

    pub(super) async fn serve(args: &ServeFtpArgs) -> Result<Exit, Failure> {
        let signals = signals()?;
        let options = options(args)?;
        let server = Server::new(&args.dir, options).map_err(|error| match error {
            tidegate_ftp::server::ServeError::Nobody => Failure::usage(format!(
                "{error}\n  try --anonymous, or --users FILE with lines from `tidegate ftp-user`"
            )),
            other => cannot(other.to_string()),
        })?;
        let listener = listen(&args.listen).await?;
        if let Ok(at) = listener.local_addr() {
            tracing::info!("serving {} on ftp://{at}/", args.dir.display());
        }
        let run = |told: tokio::sync::oneshot::Receiver<()>| async move {
            let ended = server.run(listener, async move { drop(told.await) }).await;
            if ended.sessions_cut > 0 {
                Ended::Cut
            } else {
                Ended::Whole
            }
        };
        Ok(obey(signals, run).await)
    }

    fn options(args: &ServeFtpArgs) -> Result<ServeOptions, Failure> {
        let mut options = ServeOptions::default();
        if let Some(path) = &args.users {
            let users = Users::load(path).map_err(|error| cannot(format!("{}: {error}", path.display())))?;
            options.users = Some(users);
        }
        if args.anonymous {
            options.anonymous = Anonymous::Allowed;
        }
        if args.writable {
            options.access = Access::Writable;
        }
        options.passive_ports = args.passive_ports.map(|(first, last)| first..=last);
        options.passive_address = args.passive_address;
        let limits = &mut options.limits;
        limits.idle = args.idle.unwrap_or(limits.idle);
        limits.stall = args.stall.unwrap_or(limits.stall);
        limits.shutdown_grace = args.drain.unwrap_or(crate::settings::DRAIN);
        limits.connections_max = args
            .max_connections
            .map_or(limits.connections_max, |most| most as usize);
        if let Some(most) = args.max_per_address {
            limits.connections_per_address_max = most as usize;
        }
        if args.cert.is_some() {
            let files = TlsArgs {
                cert: args.cert.clone(),
                key: args.key.clone(),
                ..TlsArgs::default()
            };
            let config = tls::server_config(&files).map_err(|error| cannot(error.to_string()))?;
            options.tls = if args.tls_required {
                Tls::Required(config)
            } else {
                Tls::Offered(config)
            };
        }
        Ok(options)
    }
}
