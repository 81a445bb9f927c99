//! FTP by the program where it breaks: transfers cut at any point and gone on with, files that changed meanwhile, and the limits
//! of `serve ftp`.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use crate::protocols::{served, writable_ftp};
use crate::support::{MIB, Place, Running, free_port, go, tidegate, until};

/// Between a client and an FTP server: lets the control connections through and cuts the data of the first transfers after some
/// bytes, as a reset or as what looks like a proper end.
struct DataCutter {
    port: u16,
    cuts: Arc<AtomicUsize>,
}

impl DataCutter {
    fn start(to: u16, cuts: &'static [usize]) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let counted = Arc::new(AtomicUsize::new(0));
        let counts = Arc::clone(&counted);
        thread::spawn(move || {
            for near in listener.incoming().flatten() {
                let counts = Arc::clone(&counts);
                thread::spawn(move || control(near, to, cuts, &counts));
            }
        });
        Self { port, cuts: counted }
    }
}

fn control(near: TcpStream, to: u16, cuts: &'static [usize], count: &Arc<AtomicUsize>) {
    let Ok(far) = TcpStream::connect(("127.0.0.1", to)) else {
        return;
    };
    let (mut commands, mut server) = (near.try_clone().unwrap(), far.try_clone().unwrap());
    thread::spawn(move || {
        let _ = std::io::copy(&mut commands, &mut server);
        let _ = server.shutdown(Shutdown::Write);
    });
    let mut near = near;
    for line in BufReader::new(far).lines().map_while(Result::ok) {
        let line = match line.strip_prefix("229 ").and_then(|text| text.split('|').nth(3)) {
            Some(port) => format!("229 Here (|||{}|)", data(port.parse().unwrap(), cuts, count)),
            None => line,
        };
        if near.write_all(format!("{line}\r\n").as_bytes()).is_err() {
            return;
        }
    }
    let _ = near.shutdown(Shutdown::Both);
}

/// A port whose next connection leads to another and is cut.
fn data(to: u16, cuts: &'static [usize], count: &Arc<AtomicUsize>) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let count = Arc::clone(count);
    thread::spawn(move || {
        let (mut near, _) = listener.accept().unwrap();
        let far = TcpStream::connect(("127.0.0.1", to)).unwrap();
        let number = count.fetch_add(1, Ordering::SeqCst);
        let most = cuts.get(number).map_or(u64::MAX, |cut| *cut as u64);
        let _ = std::io::copy(&mut far.take(most), &mut near);
        if number < cuts.len() && number.is_multiple_of(2) {
            socket2::SockRef::from(&near)
                .set_linger(Some(Duration::ZERO))
                .unwrap();
        }
    });
    port
}

/// What has come of a file, which must be its beginning.
fn beginning(place: &Place, of: &[u8]) -> usize {
    let got = std::fs::read(place.path("copy")).unwrap_or_default();
    assert!(of.starts_with(&got), "{} bytes are not its beginning", got.len());
    got.len()
}

#[test]
fn a_download_whose_connection_is_cut_goes_on_and_nothing_is_lost() {
    let place = Place::new(3 * MIB);
    let dir = place.text("");
    let mut serving = writable_ftp(&dir, &[]);
    let url = served(&mut serving);
    let to = url.rsplit(':').next().unwrap().parse().unwrap();
    let cutter = DataCutter::start(to, &[1, 70_001, 900_007, 0, 500_000, 1_000_003]);
    let url = format!("ftp://127.0.0.1:{}/big", cutter.port);
    let copy = Place::new(0);
    let (mut before, mut runs) = (0, 0);
    while before < 3 * MIB {
        let run = go(["--resume", &url, &copy.text("copy")]);
        let now = beginning(&copy, &place.bytes);
        assert_eq!(run.code == 0, now == 3 * MIB, "{now} bytes: {}", run.err);
        assert!([0, 5, 7].contains(&run.code), "{}", run.err);
        assert!(now >= before, "{now} after {before} bytes");
        (before, runs) = (now, runs + 1);
    }
    assert_eq!((runs, cutter.cuts.load(Ordering::SeqCst)), (7, 7));
    assert!(std::fs::read(copy.path("copy")).unwrap() == place.bytes);
}

#[test]
fn without_resume_a_download_that_is_cut_leaves_nothing() {
    let place = Place::new(MIB);
    let dir = place.text("");
    let mut serving = writable_ftp(&dir, &[]);
    let url = served(&mut serving);
    let to = url.rsplit(':').next().unwrap().parse().unwrap();
    let cutter = DataCutter::start(to, &[70_000, 70_000]);
    let copy = Place::new(0);
    for _ in 0..2 {
        let run = go([format!("ftp://127.0.0.1:{}/big", cutter.port), copy.text("copy")]);
        assert!([5, 7].contains(&run.code), "{}: {}", run.code, run.err);
        assert_eq!(copy.names(), ["big"]);
    }
}

#[test]
fn a_killed_download_goes_on_where_it_was() {
    let place = Place::new(12 * MIB);
    let dir = place.text("");
    let mut serving = writable_ftp(&dir, &[]);
    let url = served(&mut serving);
    let copy = Place::new(0);
    let arrived = || std::fs::metadata(copy.path("copy")).map_or(0, |found| found.len());
    for cut in [MIB / 3, 2 * MIB + 77, 5 * MIB] {
        let args = [
            "--resume",
            "--rate",
            "8MiB",
            &format!("{url}/big"),
            &copy.text("copy"),
        ]
        .map(str::to_owned);
        let mut running = Running::start(&mut tidegate(args));
        until("some of it arrived", || arrived() > cut as u64);
        running.child.kill().unwrap();
        drop(running);
        beginning(&copy, &place.bytes);
        serving.line("cut short");
    }
    let rest = 12 * MIB as u64 - arrived();
    go(["--resume".to_owned(), format!("{url}/big"), copy.text("copy")]).expect(0);
    let line = serving.line("transferred");
    assert!(
        line.contains(&format!("bytes={rest}")),
        "{line}, {rest} were missing"
    );
    assert!(std::fs::read(copy.path("copy")).unwrap() == place.bytes);
}

#[test]
fn transfers_whose_server_is_killed_go_on_with_the_next_one() {
    let place = Place::new(8 * MIB);
    let root = place.path("root");
    std::fs::create_dir(&root).unwrap();
    std::fs::write(root.join("big"), &place.bytes).unwrap();
    let dir = root.display().to_string();
    let listen = format!("127.0.0.1:{}", free_port());
    let serve = || {
        let args = [
            "serve",
            "ftp",
            &dir,
            "--listen",
            &listen,
            "--anonymous",
            "--writable",
        ];
        let mut serving = Running::start(&mut tidegate(args));
        served(&mut serving);
        serving
    };
    let copy = Place::new(0);
    let down = [format!("ftp://{listen}/big"), copy.text("copy")];
    let up = [place.text("big"), format!("ftp://{listen}/up")];
    let sizes = || {
        let entries = std::fs::read_dir(&root).unwrap().flatten();
        let uploads = entries.filter(|entry| entry.file_name() != "big");
        uploads
            .filter_map(|entry| entry.metadata().ok())
            .map(|found| found.len())
            .max()
            .unwrap_or(0)
    };
    let came = || std::fs::metadata(copy.path("copy")).map_or(0, |found| found.len());
    let arrived: [(&[String; 2], &dyn Fn() -> u64); 2] = [(&down, &came), (&up, &sizes)];
    for (addresses, arrived) in arrived {
        let mut serving = serve();
        let args = ["--resume", "--rate", "8MiB"].map(str::to_owned);
        let running = Running::start(&mut tidegate(args.iter().chain(addresses)));
        until("some of it arrived", || arrived() > MIB as u64);
        serving.child.kill().unwrap();
        drop(serving);
        let run = running.end();
        assert!([5, 6, 7].contains(&run.code), "{}: {}", run.code, run.err);
        let _serving = serve();
        go(["--resume".to_owned()].iter().chain(addresses)).expect(0);
    }
    assert!(std::fs::read(copy.path("copy")).unwrap() == place.bytes);
    assert!(std::fs::read(root.join("up")).unwrap() == place.bytes);
}

/// Two files are not joined: what is there is compared with what is to come.
#[test]
fn what_is_not_the_beginning_is_not_gone_on_with() {
    let place = Place::new(MIB);
    let root = place.path("root");
    std::fs::create_dir(&root).unwrap();
    std::fs::write(root.join("other"), &place.bytes[1..]).unwrap();
    std::fs::write(root.join("old"), "an older file").unwrap();
    let dir = root.display().to_string();
    let mut serving = writable_ftp(&dir, &[]);
    let url = served(&mut serving);
    std::fs::write(place.path("copy"), &place.bytes[..70_000]).unwrap();
    let run = go(["--resume", &format!("{url}/other"), &place.text("copy")]).expect(9);
    assert!(
        run.err.contains("cannot resume") && run.err.contains("differ"),
        "{}",
        run.err
    );
    assert!(std::fs::read(place.path("copy")).unwrap() == place.bytes[..70_000]);
    go(["--resume", &place.text("big"), &format!("{url}/old")]).expect(9);
    assert_eq!(std::fs::read(root.join("old")).unwrap(), b"an older file");
    // Longer than the whole.
    std::fs::write(root.join("long"), [&place.bytes[..], b"more"].concat()).unwrap();
    go(["--resume", &place.text("big"), &format!("{url}/long")]).expect(9);
    assert_eq!(
        std::fs::metadata(root.join("long")).unwrap().len(),
        MIB as u64 + 4
    );
}

/// A control connection by hand.
struct Control {
    stream: BufReader<TcpStream>,
}

impl Control {
    fn connect(url: &str) -> Self {
        let stream = TcpStream::connect(url.trim_start_matches("ftp://")).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
        Self {
            stream: BufReader::new(stream),
        }
    }

    /// The next reply of one line; empty at the end.
    fn reply(&mut self) -> String {
        let mut line = String::new();
        let _ = self.stream.read_line(&mut line);
        line
    }

    fn ask(&mut self, command: &str) -> String {
        self.stream
            .get_mut()
            .write_all(format!("{command}\r\n").as_bytes())
            .unwrap();
        self.reply()
    }

    fn login(url: &str) -> Self {
        let mut control = Self::connect(url);
        assert!(control.reply().starts_with("220"));
        assert!(control.ask("USER anonymous").starts_with("331"));
        assert!(control.ask("PASS me@").starts_with("230"));
        assert!(control.ask("TYPE I").starts_with("200"));
        control
    }

    fn passive_port(&mut self) -> u16 {
        let reply = self.ask("EPSV");
        let port = reply.split('|').nth(3).map(str::parse);
        port.and_then(Result::ok).unwrap_or_else(|| panic!("{reply}"))
    }
}

#[test]
fn passive_ports_stay_in_the_range_that_was_given() {
    let place = Place::new(10);
    let (dir, first) = (place.text(""), free_port());
    let mut serving = writable_ftp(&dir, &["--passive-ports", &format!("{first}-{}", first + 3)]);
    let url = served(&mut serving);
    let mut control = Control::login(&url);
    for _ in 0..20 {
        let port = control.passive_port();
        assert!((first..=first + 3).contains(&port), "{port}");
    }
    // One port, and somebody has it.
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port();
    let mut serving = writable_ftp(&dir, &["--passive-ports", &format!("{port}-{port}")]);
    let mut control = Control::login(&served(&mut serving));
    let reply = control.ask("EPSV");
    assert!(reply.starts_with("425"), "{reply}");
}

#[test]
fn connections_are_limited_in_all_and_from_one_address() {
    let place = Place::new(10);
    let dir = place.text("");
    for limit in ["--max-connections", "--max-per-address"] {
        let mut serving = writable_ftp(&dir, &[limit, "2"]);
        let url = served(&mut serving);
        let first = Control::login(&url);
        let mut second = Control::login(&url);
        assert!(Control::connect(&url).reply().starts_with("421"), "{limit}");
        assert!(second.ask("NOOP").starts_with("200"), "{limit}");
        drop(first);
        // The room comes back.
        until("one more is let in", || {
            Control::connect(&url).reply().starts_with("220")
        });
    }
}

#[test]
fn after_three_wrong_passwords_the_connection_ends() {
    let place = Place::new(10);
    std::fs::write(place.path("password"), "secret\n").unwrap();
    let user = go(["ftp-user", "anna", "--password-file", &place.text("password")]).expect(0);
    std::fs::write(place.path("users"), user.out).unwrap();
    let (dir, users) = (place.text(""), place.text("users"));
    let args = ["serve", "ftp", &dir, "--listen", "127.0.0.1:0", "--users", &users];
    let mut serving = Running::start(&mut tidegate(args));
    let mut control = Control::connect(&served(&mut serving));
    assert!(control.reply().starts_with("220"));
    for attempt in 1..=3 {
        assert!(control.ask("USER anna").starts_with("331"));
        let reply = control.ask("PASS guess");
        let code = if attempt < 3 { "530" } else { "421" };
        assert!(reply.starts_with(code), "{attempt}: {reply}");
    }
    assert_eq!(control.reply(), "", "it stays open");
}

#[test]
fn who_says_nothing_and_what_moves_nothing_is_ended() {
    let place = Place::new(10);
    let root = place.path("root");
    std::fs::create_dir(&root).unwrap();
    // Larger than what the system takes for a client that does not read.
    std::fs::File::create(root.join("hole"))
        .unwrap()
        .set_len(1 << 30)
        .unwrap();
    let dir = root.display().to_string();
    let mut serving = writable_ftp(&dir, &["--idle", "300ms"]);
    let mut idle = Control::login(&served(&mut serving));
    assert!(idle.reply().starts_with("421"));
    assert_eq!(idle.reply(), "", "it stays open");
    let mut serving = writable_ftp(&dir, &["--stall", "300ms"]);
    let url = served(&mut serving);
    for command in ["RETR hole", "STOR new"] {
        let mut control = Control::login(&url);
        let mut data = TcpStream::connect(("127.0.0.1", control.passive_port())).unwrap();
        assert!(control.ask(command).starts_with("150"), "{command}");
        let reply = control.reply();
        assert!(reply.starts_with("426"), "{command}: {reply}");
        // It is over for the client too, and not in good order.
        let mut space = vec![0; MIB];
        let end = loop {
            match data.read(&mut space) {
                Ok(0) => break None,
                Ok(_) => {}
                Err(error) => break Some(error.kind()),
            }
        };
        if command.starts_with("RETR") {
            assert_eq!(end, Some(std::io::ErrorKind::ConnectionReset));
        }
    }
    assert!(!root.join("new").exists());
}
