//! The relays and copiers Tidegate is measured against, each as a command line. Knows no figure.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use anyhow::Result;

use super::rig;
use crate::shell::{find, peers_dir};

/// A relay from a listening port to a target port.
pub(crate) struct Relay {
    /// What the tables call it.
    pub(crate) name: &'static str,
    /// Whether it serves more than one connection.
    pub(crate) many: Many,
    command: fn(u16, u16) -> Result<Command>,
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
        let guard = rig::Guard::start((self.command)(listen, to)?.stdout(std::process::Stdio::null()))?;
        rig::listening(listen)?;
        Ok(guard)
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
        (
            "tidegate",
            Many::Any,
            "",
            tidegate as fn(u16, u16) -> Result<Command>,
        ),
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

fn addresses(listen: u16, to: u16) -> [String; 2] {
    [format!("127.0.0.1:{listen}"), format!("127.0.0.1:{to}")]
}

fn tidegate_with(lane: &str, listen: u16, to: u16) -> Command {
    let [from, to] = addresses(listen, to);
    let mut command = Command::new(rig::tidegate());
    command.args(["relay", "-q", "--lane", lane]);
    command.args([format!("tcp-listen://{from}"), format!("tcp://{to}")]);
    command
}

fn tidegate(listen: u16, to: u16) -> Result<Command> {
    Ok(tidegate_with("auto", listen, to))
}

fn tidegate_splice(listen: u16, to: u16) -> Result<Command> {
    Ok(tidegate_with("splice", listen, to))
}

fn c_with(mode: &str, listen: u16, to: u16) -> Command {
    let mut command = Command::new(rig::bound());
    command.args([mode, &listen.to_string(), "127.0.0.1", &to.to_string()]);
    command
}

fn c_rw(listen: u16, to: u16) -> Result<Command> {
    Ok(c_with("relay-rw", listen, to))
}

fn c_splice(listen: u16, to: u16) -> Result<Command> {
    Ok(c_with("relay-splice", listen, to))
}

fn c_many_rw(listen: u16, to: u16) -> Result<Command> {
    Ok(c_with("many-rw", listen, to))
}

fn c_many_splice(listen: u16, to: u16) -> Result<Command> {
    Ok(c_with("many-splice", listen, to))
}

/// The interpreter of the peers' own environment, which has Twisted.
fn python() -> PathBuf {
    std::env::var_os("TIDEGATE_PYTHON").map_or_else(|| peers_dir().join("venv/bin/python"), Into::into)
}

fn twisted(listen: u16, to: u16) -> Result<Command> {
    let program = format!(
        "from twisted.internet import reactor\n\
         from twisted.protocols.portforward import ProxyFactory\n\
         reactor.listenTCP({listen}, ProxyFactory('127.0.0.1', {to}), backlog=10000, interface='127.0.0.1')\n\
         reactor.run()\n"
    );
    let mut command = Command::new(python());
    command.args(["-c", &program]);
    Ok(command)
}

fn socat_with(flags: &[&str], listen: u16, to: u16) -> Command {
    let mut command = Command::new("socat");
    command.args(flags);
    command.arg(format!(
        "TCP-LISTEN:{listen},bind=127.0.0.1,reuseaddr,fork,backlog=1024"
    ));
    command.arg(format!("TCP:127.0.0.1:{to}"));
    command
}

fn socat(listen: u16, to: u16) -> Result<Command> {
    Ok(socat_with(&[], listen, to))
}

fn socat_64k(listen: u16, to: u16) -> Result<Command> {
    Ok(socat_with(&["-b65536"], listen, to))
}

fn tokio_relay(listen: u16, to: u16) -> Result<Command> {
    let mut command = Command::new(rig::load());
    command.args(["tokio-relay", &listen.to_string(), &to.to_string()]);
    Ok(command)
}

fn haproxy_with(option: &str, listen: u16, to: u16) -> Result<Command> {
    let path = rig::scratch()?.join(format!("haproxy-{listen}.cfg"));
    let [from, to] = addresses(listen, to);
    fs::write(
        &path,
        format!(
            "global\n  maxconn 9950\n  nbthread 2\n  maxpipes 32\ndefaults\n  mode tcp\n  timeout connect 30s\n  timeout client 1h\n  \
             timeout server 1h\n  {option}\nlisten l\n  bind {from} backlog 10000\n  server s {to}\n"
        ),
    )?;
    let mut command = Command::new(find("haproxy").unwrap_or_default());
    command.arg("-db").arg("-f").arg(path);
    Ok(command)
}

fn haproxy(listen: u16, to: u16) -> Result<Command> {
    haproxy_with("", listen, to)
}

fn haproxy_splice(listen: u16, to: u16) -> Result<Command> {
    haproxy_with("option splice-request\n  option splice-response", listen, to)
}

fn nginx(listen: u16, to: u16) -> Result<Command> {
    let dir = rig::scratch()?.join(format!("nginx-{listen}"));
    fs::create_dir_all(&dir)?;
    let [from, to] = addresses(listen, to);
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
             events {{ worker_connections 9990; }}\nstream {{ server {{ listen {from} backlog=10000; proxy_pass {to}; \
             proxy_buffer_size 256k; proxy_timeout 1h; }} }}\n",
            dir.display()
        ),
    )?;
    let mut command = Command::new(find("nginx").unwrap_or_default());
    command.arg("-c").arg(conf).arg("-e").arg(dir.join("error.log"));
    Ok(command)
}
