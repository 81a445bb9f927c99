//! A child for the tests of processes and standard streams, where the system's own tools differ: does what its first
//! argument says. Knows nothing of the tests.

use std::io::{self, Read, Write};
use std::process::{Command, ExitCode, Stdio};

use tidegate_io::endpoint::stdio;
use tidegate_io::{EndpointError, Flow, Report};

fn main() -> ExitCode {
    let mut args = std::env::args().skip(1);
    let what = args.next().unwrap_or_default();
    let rest: Vec<String> = args.collect();
    let done = match what.as_str() {
        "args" => args_said(&rest),
        "copy" => copy(rest.first().map_or("", String::as_str)),
        "exit" => return exit(&rest),
        "hold" => hold(&rest),
        "parent" => parent(&rest),
        "take" => take(&rest),
        "file" => file(&rest),
        "write" => write(&rest),
        "flow" => flow(),
        #[cfg(unix)]
        "between" => descriptors::between(&rest),
        #[cfg(unix)]
        "spoil" => descriptors::spoil(),
        _ => Err(io::Error::other(
            "args, copy, exit, hold, parent, take, file, write, flow, between or spoil",
        )),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("child: {error}");
            ExitCode::from(3)
        }
    }
}

/// Every argument with its length, so that none can hide in another.
fn args_said(args: &[String]) -> io::Result<()> {
    let mut out = io::stdout().lock();
    for arg in args {
        writeln!(out, "{}:{arg}", arg.len())?;
    }
    Ok(())
}

/// Standard input to standard output, and a last word when the input has ended in good order.
fn copy(last: &str) -> io::Result<()> {
    let mut out = io::stdout().lock();
    let mut space = [0; 8192];
    loop {
        match io::stdin().lock().read(&mut space)? {
            0 => break,
            got => out.write_all(&space[..got]).and_then(|()| out.flush())?,
        }
    }
    out.write_all(last.as_bytes()).and_then(|()| out.flush())
}

/// Writes the words after the code, one line each, to standard error.
fn exit(rest: &[String]) -> ExitCode {
    for line in rest.iter().skip(1) {
        eprintln!("{line}");
    }
    let code = rest.first().and_then(|code| code.parse().ok());
    ExitCode::from(code.unwrap_or(2))
}

/// Opens a file for itself and keeps it for good.
fn hold(rest: &[String]) -> io::Result<()> {
    let _held = std::fs::File::create(rest.first().ok_or(io::ErrorKind::InvalidInput)?)?;
    io::stdout().lock().write_all(b"on\n")?;
    loop {
        std::thread::park();
    }
}

/// Starts a child of its own that holds the file, and this output.
fn parent(rest: &[String]) -> io::Result<()> {
    let mut child = Command::new(std::env::current_exe()?)
        .arg("hold")
        .args(rest)
        .stdin(Stdio::null())
        .spawn()?;
    child.wait().map(drop)
}

/// Reads so many bytes and exits in good order.
fn take(rest: &[String]) -> io::Result<()> {
    let mut space = vec![0; number(rest.first())?];
    io::stdin().lock().read_exact(&mut space)
}

/// Standard input to a file that has its name only when it is complete.
fn file(rest: &[String]) -> io::Result<()> {
    let path = rest.first().ok_or(io::ErrorKind::InvalidInput)?;
    let part = format!("{path}.part");
    let mut file = std::fs::File::create(&part)?;
    io::copy(&mut io::stdin().lock(), &mut file)?;
    drop(file);
    std::fs::rename(part, path)
}

/// So many bytes that count up.
fn write(rest: &[String]) -> io::Result<()> {
    let bytes: Vec<u8> = (0..number(rest.first())?)
        .map(|index| (index % 251) as u8)
        .collect();
    io::stdout().lock().write_all(&bytes)
}

/// Standard input to standard output through the library's own endpoints.
fn flow() -> io::Result<()> {
    run(async {
        let (source, sink) = (stdio::stdin()?, stdio::stdout()?);
        Flow::new(source, sink).run().await.map_err(|error| error.cause)
    })
}

fn run(flow: impl Future<Output = Result<Report, EndpointError>>) -> io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(flow).map(drop).map_err(io::Error::other)
}

/// What only systems with numbered descriptors have.
#[cfg(unix)]
mod descriptors {
    use std::io;

    use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl};
    use tidegate_io::Flow;
    use tidegate_io::endpoint::fd::Descriptor;

    /// From one descriptor to another.
    pub(super) fn between(numbers: &[String]) -> io::Result<()> {
        let numbers: Vec<i32> = numbers.iter().filter_map(|text| text.parse().ok()).collect();
        let [from, to] = numbers[..] else {
            return Err(io::ErrorKind::InvalidInput.into());
        };
        super::run(async {
            let source = Descriptor::adopt(from)?.into_source()?;
            let sink = Descriptor::adopt(to)?.into_sink()?;
            Flow::new(source, sink).run().await.map_err(|error| error.cause)
        })
    }

    /// Does to standard input what must not be done.
    pub(super) fn spoil() -> io::Result<()> {
        let flags = fcntl_getfl(io::stdin())?;
        Ok(fcntl_setfl(io::stdin(), flags | OFlags::NONBLOCK)?)
    }
}

fn number(text: Option<&String>) -> io::Result<usize> {
    text.and_then(|text| text.parse().ok())
        .ok_or_else(|| io::ErrorKind::InvalidInput.into())
}
