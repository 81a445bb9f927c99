//! Who wins: the command line over the environment over the configuration file over what is built in.

use crate::support::{Place, Run, Running, go, run, tidegate};

/// A copy under a configuration and an environment, with the report as JSON.
fn copy(place: &Place, config: &str, environment: &[(&str, &str)], options: &[&str]) -> Run {
    std::fs::write(place.path("config.toml"), config).unwrap();
    let mut command = tidegate(options);
    command
        .args([place.text("big"), place.text("copy")])
        .args(["--force", "--json"]);
    command.env("TIDEGATE_CONFIG", place.path("config.toml"));
    command.envs(environment.iter().copied());
    run(command)
}

fn checksum(run: Run) -> String {
    let last: serde_json::Value = serde_json::from_str(run.expect(0).last()).unwrap();
    let sum = last["checksum"].as_str().unwrap_or("none");
    sum.split(':').next().unwrap().to_owned()
}

#[test]
fn the_command_line_wins_over_the_environment_over_the_file() {
    let place = Place::new(1000);
    let file = "[defaults]\nchecksum = 'crc32'\n";
    let environment = [("TIDEGATE_CHECKSUM", "blake3")];
    assert_eq!(checksum(copy(&place, "", &[], &[])), "none");
    assert_eq!(checksum(copy(&place, file, &[], &[])), "crc32");
    assert_eq!(checksum(copy(&place, file, &environment, &[])), "blake3");
    assert_eq!(
        checksum(copy(&place, file, &environment, &["--checksum", "sha256"])),
        "sha256"
    );
}

#[test]
fn a_home_that_is_no_folder_holds_no_configuration() {
    let place = Place::new(10);
    let mut command = tidegate([place.text("big"), place.text("copy")]);
    command.env_remove("XDG_CONFIG_HOME").env("HOME", "/dev/null");
    run(command).expect(0);
    place.holds_all("copy");
}

/// What is usual here gives way to what was said this time and does not go with it.
#[test]
fn what_the_environment_says_gives_way() {
    let place = Place::new(1000);
    let usual = [("TIDEGATE_CHECKSUM", "sha256"), ("TIDEGATE_QUIET", "1")];
    let resume = |options: &[&str]| {
        let mut command = tidegate(options);
        command
            .args([place.text("big"), place.text("copy")])
            .arg("--resume");
        command.envs(usual);
        run(command)
    };
    let said = resume(&["--checksum", "sha256"]).expect(2);
    assert!(
        said.err.contains("--resume cannot be used with --checksum"),
        "{}",
        said.err
    );
    let told = resume(&["-v"]).expect(0);
    assert!(!told.err.is_empty(), "quiet although -v was said");
    place.holds_all("copy");
    // Of a command beside the copy no less.
    resume(&["explain", "--checksum", "sha256"]).expect(2);
    let explained = resume(&["explain"]).expect(0);
    assert!(!String::from_utf8(explained.out).unwrap().contains("sha256"));
    let mut relay = tidegate(["relay", "-v", "tcp-listen://127.0.0.1:0", "tcp://127.0.0.1:1"]);
    let mut relay = Running::start(relay.envs(usual));
    relay.port();
    relay.signal("TERM");
    relay.end();
    // Of uploads that a server does not take: it goes on to what is wrong with the directory.
    let mut serve = tidegate(["serve", "http", &place.text("nothing")]);
    serve.env("TIDEGATE_DURABILITY", "cached");
    let failed = run(serve);
    assert!(failed.err.contains("cannot open the directory"), "{}", failed.err);
}

#[test]
fn names_and_defaults_come_from_the_file() {
    let place = Place::new(1000);
    let config = format!(
        "[defaults]\nchecksum = 'crc32'\n[endpoints]\nin = '{}'\n",
        place.text("big")
    );
    std::fs::write(place.path("config.toml"), config).unwrap();
    let config = place.text("config.toml");
    let done = go(["--config", &config, "@in", &place.text("copy")]).expect(0);
    assert!(done.last().contains("crc32 "), "{}", done.err);
    place.holds_all("copy");
    // From its usual place, and told with -v.
    let home = place.path("home/tidegate");
    std::fs::create_dir_all(&home).unwrap();
    std::fs::copy(&config, home.join("config.toml")).unwrap();
    let mut command = tidegate(["-v", "@in", &place.text("other")]);
    command.env("XDG_CONFIG_HOME", place.path("home"));
    let done = run(command).expect(0);
    assert!(
        done.err.contains("configuration: ") && done.last().contains("crc32 "),
        "{}",
        done.err
    );
    let slip = go(["--config", &config, "@inn", "b"]).expect(2);
    assert!(slip.err.contains("try @in"), "{}", slip.err);
    go(["--config", "/nonexistent/x", "a", "b"]).expect(2);
}

#[test]
fn what_is_wrong_is_told_with_file_and_line() {
    let place = Place::new(10);
    for (config, line, part) in [
        ("[defaults]\nrate = 'soon'\n", 2, "`rate`: `soon` is no rate"),
        ("[defaults]\n\nrat = '1'\n", 3, "unknown field `rat`"),
        ("[defaults]\nchecksum = 'md5'\n", 2, "sha256"),
        ("[defaults]\nprogress = 'sometimes'\n", 2, "auto, always, never"),
        ("[defaults]\nretries = 'many'\n", 2, "invalid type"),
        ("[default]\n", 1, "unknown field"),
        ("not toml\n", 1, ""),
    ] {
        let run = copy(&place, config, &[], &[]).expect(2);
        let report: serde_json::Value = serde_json::from_str(run.last()).unwrap();
        let message = report["error"]["message"].as_str().unwrap();
        let at = format!("{}:{line}: ", place.text("config.toml"));
        assert!(
            message.starts_with(&at) && message.contains(part),
            "{config:?}: {message}"
        );
    }
    let run = copy(&place, "[endpoints]\nx = 'tcp://h'\n", &[], &[]).expect(0);
    drop(run);
    let run = go(["--config", &place.text("config.toml"), "@x", "b"]).expect(2);
    assert!(run.err.contains("the port is missing\n  tcp://h"), "{}", run.err);
    assert_eq!(place.names(), ["big", "config.toml", "copy"]);
}

#[test]
fn every_word_of_the_configuration_is_taken() {
    let place = Place::new(1000);
    let config = "[defaults]\nlow = '1KiB'\nhigh = '8KiB'\nmax = '1MiB'\nchunk = '4KiB'\nrate = '1GiB/s'\nstall = '1m'\n\
                  connect-timeout = '5s'\ndrain = '5s'\nlane = 'copy'\nchecksum = 'sha256'\nprogress = 'never'\n\
                  log-format = 'json'\nquiet = false\nverbose = 1\nheader = ['X-A: b']\nmethod = 'POST'\nretries = 1\n\
                  active = false\npart = false\ndurability = 'cached'\n";
    assert_eq!(checksum(copy(&place, config, &[], &[])), "sha256");
    std::fs::write(place.path("config.toml"), config).unwrap();
    let plan = go(["explain", "a", "tcp:h:1", "--config", &place.text("config.toml")]).expect(0);
    let plan = String::from_utf8(plan.out).unwrap();
    for part in [
        "high 8.00 KiB",
        "chunk of 4.00 KiB",
        "stall 60.0 s",
        "connect 5.00 s",
        "rate 1.00 GiB/s",
        "sha256",
    ] {
        assert!(plan.contains(part), "{part} is missing in {plan}");
    }
}

#[test]
fn every_variable_of_the_environment_is_taken() {
    let place = Place::new(10);
    // What cannot be read is wrong use whatever the variable: so each of them is read.
    for name in [
        "LOW",
        "HIGH",
        "MAX",
        "CHUNK",
        "RATE",
        "STALL",
        "CONNECT_TIMEOUT",
        "DRAIN",
        "LANE",
        "SIZE",
        "CHECKSUM",
        "PROGRESS",
        "LOG_FORMAT",
        "RETRIES",
        "VERBOSE",
        "DURABILITY",
    ] {
        let mut command = tidegate([place.text("big"), place.text("copy")]);
        command.env(format!("TIDEGATE_{name}"), "nonsense");
        let run = run(command);
        assert!(
            run.code == 2 && run.err.contains("nonsense"),
            "{name}: {} {}",
            run.code,
            run.err
        );
    }
    let mut command = tidegate([place.text("big"), place.text("copy")]);
    command.env("TIDEGATE_QUIET", "1");
    assert_eq!(run(command).expect(0).err, "");
    let mut command = tidegate(["--nonsense"]);
    command.env("TIDEGATE_JSON", "1");
    let told = run(command).expect(2);
    serde_json::from_str::<serde_json::Value>(&told.err).unwrap();
}
