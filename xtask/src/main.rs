//! The chores of the project as one program: `cargo xtask <chore>`. Knows nothing of what Tidegate does.
#![forbid(unsafe_code)]

mod bench;
mod ci;
mod peers;
mod shell;
mod test;
mod tidy;
mod windows;

use std::process::ExitCode;

const HELP: &str = "\
cargo xtask <chore>

  test [ARGS…]   install the peers the tests need (when it may), run every test, name what was skipped
  ci             fmt, clippy, docs, tidy, the core's border, test, model checks, windows
  bench [NAME…]  measure beside the peers that are installed, and write docs/benchmarks.md; see bench --help
  tidy           the checks no compiler makes
  loom           the model checks of signal delivery
  windows        build for x86_64-pc-windows-gnu and run the tests under wine
  peers          only install the peers

TIDEGATE_REQUIRE_PEERS=1 makes a missing peer a failure instead of a loud skip.
TIDEGATE_NO_INSTALL=1 installs nothing.";

fn main() -> ExitCode {
    let mut args = std::env::args().skip(1);
    let chore = args.next().unwrap_or_default();
    let rest: Vec<String> = args.collect();
    let done = match chore.as_str() {
        "test" => test::run(&rest),
        "ci" => ci::run(),
        "bench" => bench::run(&rest),
        "tidy" => tidy::run(),
        "loom" => ci::loom(),
        "windows" => windows::run(),
        "peers" => peers::ensure().map(|_| ()),
        "help" | "--help" | "-h" => {
            println!("{HELP}");
            return ExitCode::SUCCESS;
        }
        _ => {
            eprintln!("{HELP}");
            return ExitCode::from(2);
        }
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("xtask {chore}: {error:#}");
            ExitCode::FAILURE
        }
    }
}
