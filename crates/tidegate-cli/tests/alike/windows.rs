//! What only Windows has, as its users meet it: drives, long paths, named pipes.

use super::{expect, go, noise, place, started, text};

#[test]
fn paths_with_drives_and_long_paths_are_paths() {
    let (folder, big) = place(1000);
    let copy = folder.path().join("copy");
    let long = format!(
        r"\\?\{}",
        big.canonicalize()
            .unwrap()
            .display()
            .to_string()
            .trim_start_matches(r"\\?\")
    );
    expect(&go(&[&long, text(&copy)]), 0);
    let url = format!("file:{}", copy.display());
    let again = folder.path().join("again");
    expect(&go(&[&url, text(&again)]), 0);
    assert!(std::fs::read(again).unwrap() == noise(1000));
}

#[test]
fn a_named_pipe_carries_a_file_to_a_listener() {
    let (folder, big) = place(2_000_000);
    let copy = folder.path().join("copy");
    let name = format!(r"tidegate-program.{}", std::process::id());
    let (mut listening, _) = started(&[&format!("npipe-listen:{name}"), text(&copy)], "npipe-listen:");
    expect(&go(&[text(&big), &format!(r"npipe:\\.\pipe\{name}")]), 0);
    assert_eq!(listening.wait().unwrap().code(), Some(0));
    assert!(std::fs::read(copy).unwrap() == noise(2_000_000));
}
