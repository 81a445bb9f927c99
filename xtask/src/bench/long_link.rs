//! Throughput over a link of 100 ms there and back: to the relay, from it, and to it after its reader was slow for a while.
//!
//! Knows how to make the link (`long_link.c`) and how to put a relay at either end of it. Where namespaces cannot be made, the
//! bench is skipped.

use std::net::{Ipv4Addr, SocketAddrV4};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail};

use super::connections::numbers;
use super::peers::{Relay, Way, relays};
use super::rig::{self, Guard};
use super::table::Table;

/// Each way.
const DELAY_MS: &str = "50";
const SLOW_BYTES_A_SECOND: &str = "10485760";
const SEND_QUEUE_BYTES: u64 = 32 << 20;
const LISTEN: u16 = 5000;
const TO: u16 = 5001;
const LIMIT: Duration = Duration::from_secs(60);
/// C relays take any address but listen on 127.0.0.1; the others that are left out would only tell the same again.
const CONTESTANTS: &[&str] = &["tidegate", "tidegate --lane splice", "haproxy", "socat -b64k"];

/// Two network namespaces and the link between them.
struct Link {
    near: Place,
    far: Place,
    _forwarder: Guard,
}

/// One end of the link.
struct Place {
    pid: String,
    address: Ipv4Addr,
}

impl Link {
    fn make() -> Result<Self> {
        let mut command = Command::new(rig::long_link());
        let mut forwarder = Guard::start(command.arg(DELAY_MS).stdout(Stdio::piped()))?;
        let line = forwarder
            .first_line()
            .context("no network namespaces or no TUN devices here")?;
        let (near, far) = line.trim().split_once(' ').context("no two processes")?;
        let place = |pid: &str, last| Place {
            pid: pid.to_owned(),
            address: Ipv4Addr::new(10, 77, 0, last),
        };
        let link = Self {
            near: place(near, 1),
            far: place(far, 2),
            _forwarder: forwarder,
        };
        // With the usual 4 MiB the sender's queue would be what bounds the rate, and no window of the receiver's would show.
        let tune = format!("echo 4096 16384 {SEND_QUEUE_BYTES} >/proc/sys/net/ipv4/tcp_wmem");
        let mut sh = Command::new("sh");
        let tuned = link.near.start(sh.args(["-c", &tune]), Stdio::null())?;
        tuned
            .succeeds(LIMIT)
            .context("the sender's queue cannot be set")?;
        Ok(link)
    }
}

impl Place {
    fn at(&self, port: u16) -> SocketAddrV4 {
        SocketAddrV4::new(self.address, port)
    }

    /// Starts a command in this end's network.
    fn start(&self, command: &Command, out: Stdio) -> Result<Guard> {
        let mut entered = Command::new("nsenter");
        entered.arg(format!("--net=/proc/{}/ns/net", self.pid));
        entered.arg(command.get_program()).args(command.get_args());
        Guard::start(entered.stdout(out))
    }

    fn load(&self, words: &[&str]) -> Result<Guard> {
        self.start(Command::new(rig::load()).args(words), Stdio::piped())
    }
}

/// Where the relay stands, if there is one.
#[derive(Clone, Copy)]
enum Stands {
    /// At the reader: the long link leads to it.
    Far,
    /// At the sender: the long link leads from it.
    Near,
}

/// Bytes a second that the reader got, and got while it was slow.
struct Rates {
    slow: f64,
    fast: f64,
}

pub(crate) fn long_link() -> Result<Table> {
    drop(Link::make()?);
    let columns = &[
        "link before it",
        "link behind it",
        "before it, reader at 10 MiB/s",
        "before it, after that",
    ];
    let title = "100 ms there and back, no rate, the sender's queue up to 32 MiB: MiB/s";
    let mut table = Table::new(title, columns, "link before it").over("no relay at all");
    let relays = relays();
    let relays = relays.iter().filter(|relay| CONTESTANTS.contains(&relay.name));
    for _ in 0..rig::rounds_or(3, 1) {
        for relay in relays.clone().map(Some).chain([None]) {
            let name = relay.map_or("no relay at all", |relay| relay.name);
            table.add_or_tell(name, round(relay));
        }
    }
    Ok(table)
}

fn round(relay: Option<&Relay>) -> Result<[f64; 4]> {
    const MIB: f64 = 1_048_576.0;
    let before = measure(relay, Stands::Far, 0)?;
    let behind = match relay {
        Some(_) => measure(relay, Stands::Near, 0)?,
        None => measure(relay, Stands::Far, 0)?,
    };
    let later = measure(relay, Stands::Far, 2)?;
    Ok([before.fast, behind.fast, later.slow, later.fast].map(|rate| rate / MIB))
}

/// A sender at the near end, a reader at the far one that is slow at first, over a link of its own.
fn measure(relay: Option<&Relay>, stands: Stands, slow_seconds: u64) -> Result<Rates> {
    let link = Link::make()?;
    let to = link.far.at(TO);
    let seconds = rig::usual_or_quick(4, 2).to_string();
    let skip = rig::usual_or_quick(3, 2).to_string();
    let (address, slow) = (to.to_string(), slow_seconds.to_string());
    let words = ["phases", &address, SLOW_BYTES_A_SECOND, &slow, &skip, &seconds];
    let reader = link.far.load(&words)?;
    rig::listening_where(&link.far.pid, TO)?;
    let (place, listen) = match stands {
        Stands::Far => (&link.far, link.far.at(LISTEN)),
        Stands::Near => (&link.near, link.near.at(LISTEN)),
    };
    let _relay = match relay {
        Some(relay) => {
            let guard = place.start(&relay.command(Way { listen, to })?, Stdio::null())?;
            rig::listening_where(&place.pid, LISTEN)?;
            Some(guard)
        }
        None => None,
    };
    let first = if relay.is_some() { listen } else { to };
    let _sender = link.near.load(&["blast", &first.to_string()])?;
    match numbers(&reader.output(LIMIT)?)?.as_slice() {
        &[slow, fast] => Ok(Rates { slow, fast }),
        other => bail!("not two figures: {other:?}"),
    }
}
