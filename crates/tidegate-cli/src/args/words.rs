//! The words of a command line before clap reads them: options in front of a command, and which words are no options.
//!
//! Knows which options take the next word, from clap's own definition.

use std::ffi::{OsStr, OsString};

use clap::CommandFactory;

use super::Cli;

/// Lets options stand before the name of a command: `tidegate --lane copy relay A B` is `tidegate relay --lane copy A B`.
/// A word that is no command is the first address, and the line stays as it is.
pub(super) fn arrange(words: Vec<OsString>) -> Vec<OsString> {
    let command = Cli::command();
    let mut at = 1;
    while let Some(word) = words.get(at) {
        let text = word.to_string_lossy();
        if text == "--" || text == "-" || !text.starts_with('-') {
            break;
        }
        at += 1 + usize::from(takes_next_word(&command, &text));
    }
    let names_command = |word: &OsStr| command.find_subcommand(word).is_some();
    let mut words = words;
    if at > 1 && words.get(at).is_some_and(|word| names_command(word)) {
        let word = words.remove(at);
        words.insert(1, word);
    }
    words
}

/// Whether an option as written leaves its value to the next word.
fn takes_next_word(command: &clap::Command, text: &str) -> bool {
    let mut known = command
        .get_arguments()
        .chain(command.get_subcommands().flat_map(clap::Command::get_arguments));
    if let Some(long) = text.strip_prefix("--") {
        return !long.contains('=')
            && known.any(|arg| arg.get_long() == Some(long) && arg.get_action().takes_values());
    }
    let mut shorts = text[1..].chars();
    let first = shorts.by_ref().find(|short| {
        known
            .by_ref()
            .any(|arg| arg.get_short() == Some(*short) && arg.get_action().takes_values())
    });
    first.is_some() && shorts.next().is_none()
}

/// The words that are neither options nor their values, without the program's own name.
pub(crate) fn positionals(words: &[OsString]) -> Vec<String> {
    let command = Cli::command();
    let mut found = Vec::new();
    let mut at = 1;
    let mut only_addresses = false;
    while let Some(word) = words.get(at) {
        let text = word.to_string_lossy();
        at += 1;
        if only_addresses || text == "-" || !text.starts_with('-') {
            found.push(text.into_owned());
        } else if text == "--" {
            only_addresses = true;
        } else {
            at += usize::from(takes_next_word(&command, &text));
        }
    }
    found
}

/// The names of the commands.
pub(crate) fn commands() -> Vec<String> {
    Cli::command()
        .get_subcommands()
        .map(|command| command.get_name().to_owned())
        .collect()
}

/// Whether a word is the name of a command.
pub(crate) fn is_command(word: &str) -> bool {
    Cli::command().find_subcommand(word).is_some()
}

/// Whether an option, as `-x` or `--name`, is one of ours.
#[cfg(test)]
pub(crate) fn has_option(written: &str) -> bool {
    Cli::command()
        .get_arguments()
        .any(|arg| match written.strip_prefix("--") {
            Some(long) => arg.get_long() == Some(long),
            None => arg.get_short() == written.chars().nth(1),
        })
}
