//! The relays and copiers Tidegate is measured against, each as a command line. Knows no figure.

use std::fs;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::path::PathBuf;
use std::process::{Command, Stdio};

use anyhow::Result;

use super::rig;
use crate::shell::{find, peers_dir};

/// A relay from a listening port to a target port.
pub(crate) struct Relay {
    /// What the tables call it.
    pub(crate) name: &'static str,
    /// Whether it serves more than one connection.
    pub(crate) many: Many,
    command: fn(Way) -> Result<Command>,
}

/// Where a relay listens, and where it goes from there.
#[derive(Clone, Copy)]
pub(crate) struct Way {
    /// Its own address.
    pub(crate) listen: SocketAddrV4,
    /// The one it dials.
    pub(crate) to: SocketAddrV4,
}

impl Way {
    /// From a port to a port of this machine.
    fn here(listen: u16, to: u16) -> Self {
        let at = |port| SocketAddrV4::new(Ipv4Addr::LOCALHOST, port);
        Self {
            listen: at(listen),
            to: at(to),
        }
    }
}

/// How many connections a relay serves.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Many {
    /// One, then it ends.
    One,
    /// Any number.
    Any,
    /// Any number, and only of interest with many.
    Crowd,
}

impl Relay {
    /// Starts it and waits until it listens.
    pub(crate) fn start(&self, listen: u16, to: u16) -> Result<rig::Guard> {
        let guard = rig::Guard::start(self.command(Way::here(listen, to))?.stdout(Stdio::null()))?;
        rig::listening(listen)?;
        Ok(guard)
    }

    /// Its command line, to be started elsewhere.
    pub(crate) fn command(&self, way: Way) -> Result<Command> {
        (self.command)(way)
    }
}

/// The relays for one connection that can be had here, Tidegate first.
pub(crate) fn relays() -> Vec<Relay> {
    all().filter(|relay| relay.many != Many::Crowd).collect()
}

/// The relays for a crowd of connections. socat starts a process for each, which is another trade: it is left out.
pub(crate) fn crowd() -> Vec<Relay> {
    all()
        .filter(|relay| relay.many != Many::One && !relay.name.starts_with("socat"))
        .collect()
}

fn all() -> impl Iterator<Item = Relay> {
    let all = [
        ("tidegate", Many::Any, "", tidegate as fn(Way) -> Result<Command>),
        ("tidegate --lane splice", Many::Any, "", tidegate_splice),
        ("C read/write 1 MiB", Many::One, "", c_rw),
        ("C splice", Many::One, "", c_splice),
        ("C epoll read/write", Many::Crowd, "", c_many_rw),
        ("C epoll splice", Many::Crowd, "", c_many_splice),
        ("nginx stream 256k", Many::Any, "nginx", nginx),
        ("haproxy", Many::Any, "haproxy", haproxy),
        ("haproxy splice", Many::Any, "haproxy", haproxy_splice),
        ("socat", Many::Any, "socat", socat),
        ("socat -b64k", Many::Any, "socat", socat_64k),
        ("copy_bidirectional", Many::Any, "", tokio_relay),
        ("Twisted portforward", Many::Crowd, "", twisted),
    ];
    all.into_iter()
        .filter(|(_, _, program, _)| program.is_empty() || find(program).is_some())
        .filter(|(name, ..)| *name != "Twisted portforward" || python().exists())
        .map(|(name, many, _, command)| Relay { name, many, command })
}

fn tidegate_with(lane: &str, way: Way) -> Command {
    let mut command = Command::new(rig::tidegate());
    command.args(["relay", "-q", "--lane", lane]);
    command.args([
        format!("tcp-listen://{}", way.listen),
        format!("tcp://{}", way.to),
    ]);
    command
}

fn tidegate(way: Way) -> Result<Command> {
    Ok(tidegate_with("auto", way))
}

fn tidegate_splice(way: Way) -> Result<Command> {
    Ok(tidegate_with("splice", way))
}

fn c_with(mode: &str, way: Way) -> Command {
    let mut command = Command::new(rig::bound());
    let [listen, to] = [way.listen.port(), way.to.port()].map(|port| port.to_string());
    command.args([mode, &listen, "127.0.0.1", &to]);
    command
}

fn c_rw(way: Way) -> Result<Command> {
    Ok(c_with("relay-rw", way))
}

fn c_splice(way: Way) -> Result<Command> {
    Ok(c_with("relay-splice", way))
}

fn c_many_rw(way: Way) -> Result<Command> {
    Ok(c_with("many-rw", way))
}

fn c_many_splice(way: Way) -> Result<Command> {
    Ok(c_with("many-splice", way))
}

/// The interpreter of the peers' own environment, which has Twisted.
fn python() -> PathBuf {
    std::env::var_os("TIDEGATE_PYTHON").map_or_else(|| peers_dir().join("venv/bin/python"), Into::into)
}

fn twisted(way: Way) -> Result<Command> {
    let program = format!(
        "from twisted.internet import reactor\n\
         from twisted.protocols.portforward import ProxyFactory\n\
         reactor.listenTCP({}, ProxyFactory('{}', {}), backlog=10000, interface='{}')\n\
         reactor.run()\n",
        way.listen.port(),
        way.to.ip(),
        way.to.port(),
        way.listen.ip()
    );
    let mut command = Command::new(python());
    command.args(["-c", &program]);
    Ok(command)
}

fn socat_with(flags: &[&str], way: Way) -> Command {
    let mut command = Command::new("socat");
    command.args(flags);
    command.arg(format!(
        "TCP-LISTEN:{},bind={},reuseaddr,fork,backlog=1024",
        way.listen.port(),
        way.listen.ip()
    ));
    command.arg(format!("TCP:{}", way.to));
    command
}

fn socat(way: Way) -> Result<Command> {
    Ok(socat_with(&[], way))
}

fn socat_64k(way: Way) -> Result<Command> {
    Ok(socat_with(&["-b65536"], way))
}

fn tokio_relay(way: Way) -> Result<Command> {
    let mut command = Command::new(rig::load());
    command.args(["tokio-relay", &way.listen.to_string(), &way.to.to_string()]);
    Ok(command)
}

fn haproxy_with(option: &str, way: Way) -> Result<Command> {
    let path = rig::scratch()?.join(format!("haproxy-{}.cfg", way.listen.port()));
    let Way { listen, to } = way;
    fs::write(
        &path,
        format!(
            "global\n  maxconn 9950\n  nbthread 2\n  maxpipes 32\ndefaults\n  mode tcp\n  timeout connect 30s\n  timeout client 1h\n  \
             timeout server 1h\n  {option}\nlisten l\n  bind {listen} backlog 10000\n  server s {to}\n"
        ),
    )?;
    let mut command = Command::new(find("haproxy").unwrap_or_default());
    command.arg("-db").arg("-f").arg(path);
    Ok(command)
}

fn haproxy(way: Way) -> Result<Command> {
    haproxy_with("", way)
}

fn haproxy_splice(way: Way) -> Result<Command> {
    haproxy_with("option splice-request\n  option splice-response", way)
}

fn nginx(way: Way) -> Result<Command> {
    let dir = rig::scratch()?.join(format!("nginx-{}", way.listen.port()));
    fs::create_dir_all(&dir)?;
    let Way { listen, to } = way;
    let module = "/usr/lib/nginx/modules/ngx_stream_module.so";
    let load = if std::path::Path::new(module).exists() {
        format!("load_module {module};\n")
    } else {
        String::new()
    };
    let conf = dir.join("nginx.conf");
    fs::write(
        &conf,
        format!(
            "{load}daemon off;\nworker_processes 2;\nworker_rlimit_nofile 20000;\npid {0}/pid;\nerror_log {0}/error.log;\n\
             events {{ worker_connections 19990; }}\nstream {{ server {{ listen {listen} backlog=10000; proxy_pass {to}; \
             proxy_buffer_size 256k; proxy_timeout 1h; }} }}\n",
            dir.display()
        ),
    )?;
    let mut command = Command::new(find("nginx").unwrap_or_default());
    command.arg("-c").arg(conf).arg("-e").arg(dir.join("error.log"));
    Ok(command)
}
