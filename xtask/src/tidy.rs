//! The checks no compiler makes: opening lines, leftovers, long functions, conditions on the system, paths of somebody's
//! machine, the changelog.
//!
//! Knows the shape of source files, and nothing of what they do.

mod borders;

use std::fs;
use std::path::PathBuf;

use anyhow::{Context, Result, bail};

use crate::shell::{cargo, output, root};

/// The longest function allowed, in lines.
const FUNCTION_LINES_MAX: usize = 80;

/// Runs every check and lists all that is wrong.
pub(crate) fn run() -> Result<()> {
    println!("== tidy");
    let mut wrong = Vec::new();
    let files = tracked()?;
    for file in files
        .iter()
        .filter(|file| file.extension().is_some_and(|kind| kind == "rs"))
    {
        let text = fs::read_to_string(root().join(file)).with_context(|| file.display().to_string())?;
        let name = file.display().to_string();
        opening_line(&name, &text, &mut wrong);
        leftovers(&name, &text, &mut wrong);
        long_functions(&name, &text, &mut wrong);
        if name.starts_with("crates/") && name.contains("/src/") {
            borders::scattered(&name, &text, &mut wrong);
        }
    }
    for file in &files {
        machine_paths(file, &mut wrong);
    }
    changelog(&mut wrong)?;
    toolchain(&mut wrong)?;
    if wrong.is_empty() {
        return Ok(());
    }
    for line in &wrong {
        println!("{line}");
    }
    bail!("{} things are untidy", wrong.len())
}

fn tracked() -> Result<Vec<PathBuf>> {
    let mut git = std::process::Command::new("git");
    let list =
        output(
            git.current_dir(root())
                .args(["ls-files", "--cached", "--others", "--exclude-standard"]),
        )?;
    Ok(list
        .lines()
        .map(PathBuf::from)
        .filter(|file| root().join(file).is_file())
        .collect())
}

fn opening_line(name: &str, text: &str, wrong: &mut Vec<String>) {
    if !text.starts_with("//! ") {
        wrong.push(format!("{name}: no opening //! line"));
    }
}

fn leftovers(name: &str, text: &str, wrong: &mut Vec<String>) {
    // Put together here so that this file does not find itself.
    let marks = [
        ["FIX", "ME"],
        ["XX", "X:"],
        ["TO", "DO"],
        ["todo", "!("],
        ["dbg", "!("],
        ["#[ign", "ore"],
    ];
    for (number, line) in text.lines().enumerate() {
        for mark in marks.iter().map(|parts| parts.concat()) {
            if line.contains(&mark) && !name.ends_with("tidy.rs") {
                wrong.push(format!("{name}:{}: left over: {mark}", number + 1));
            }
        }
    }
}

/// Measures functions by the indentation rustfmt gives them.
fn long_functions(name: &str, text: &str, wrong: &mut Vec<String>) {
    let mut open: Option<(usize, usize, &str)> = None;
    for (number, line) in text.lines().enumerate() {
        let indent = line.len() - line.trim_start().len();
        let rest = line.trim_start();
        match open {
            None if is_function(rest) && !rest.ends_with(['}', ';']) => open = Some((number, indent, rest)),
            Some((start, at, head)) if indent == at && rest.starts_with('}') => {
                let lines = number - start + 1;
                if lines > FUNCTION_LINES_MAX {
                    wrong.push(format!("{name}:{}: {lines} lines: {head}", start + 1));
                }
                open = None;
            }
            Some((_, at, _)) if indent == at && rest.ends_with(';') && rest.starts_with(')') => open = None,
            _ => {}
        }
    }
}

fn is_function(line: &str) -> bool {
    let mut words = line.split_whitespace().skip_while(|word| {
        word.starts_with("pub")
            || matches!(
                *word,
                "async" | "const" | "extern" | "\"C\"" | "in" | "crate)" | "super)"
            )
    });
    words.next() == Some("fn")
}

fn machine_paths(file: &std::path::Path, wrong: &mut Vec<String>) {
    let Ok(text) = fs::read_to_string(root().join(file)) else {
        return;
    };
    let parts = [["/wo", "rk/"], ["/ro", "ot/"]];
    for (number, line) in text.lines().enumerate() {
        if parts.iter().any(|halves| line.contains(&halves.concat())) {
            wrong.push(format!(
                "{}:{}: a path of somebody's machine",
                file.display(),
                number + 1
            ));
        }
    }
}

fn changelog(wrong: &mut Vec<String>) -> Result<()> {
    let text = fs::read_to_string(root().join("CHANGELOG.md")).context("CHANGELOG.md")?;
    if !text.contains("\n## Unreleased") {
        wrong.push("CHANGELOG.md: no Unreleased heading".to_owned());
    }
    Ok(())
}

/// The stated MSRV is the oldest toolchain we build with, so CI's own may not be older, and README says the same.
fn toolchain(wrong: &mut Vec<String>) -> Result<()> {
    let manifest = fs::read_to_string(root().join("Cargo.toml"))?;
    let stated = manifest
        .lines()
        .find_map(|line| line.strip_prefix("rust-version = "))
        .unwrap_or("")
        .trim_matches('"');
    let readme = fs::read_to_string(root().join("README.md")).context("README.md")?;
    if stated.is_empty() || !readme.contains(&format!("Rust {stated}")) {
        wrong.push(format!(
            "README.md: does not state the MSRV of Cargo.toml ({stated})"
        ));
    }
    let version = output(cargo().arg("--version"))?;
    println!("== tidy: built with {}", version.trim());
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sees_long_functions_and_only_those() {
        let body = "    x();\n".repeat(FUNCTION_LINES_MAX);
        let long = format!("//! x\npub(crate) fn long() {{\n{body}}}\nfn short() {{\n    y();\n}}\n");
        let mut wrong = Vec::new();
        long_functions("x.rs", &long, &mut wrong);
        assert_eq!(wrong.len(), 1, "{wrong:?}");
    }

    #[test]
    fn sees_a_missing_opening_line_and_leftovers() {
        let mut wrong = Vec::new();
        opening_line("x.rs", "fn x() {}", &mut wrong);
        leftovers("x.rs", &["// FIX", "ME later"].concat(), &mut wrong);
        assert_eq!(wrong.len(), 2, "{wrong:?}");
    }
}
