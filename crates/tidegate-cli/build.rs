//! Links the one piece that has to run before Rust's runtime does: see `src/closed_streams.c`.
//!
//! Knows nothing of the program otherwise.

fn main() {
    println!("cargo::rerun-if-changed=src/closed_streams.c");
    if std::env::var("CARGO_CFG_TARGET_OS").as_deref() != Ok("linux") {
        return;
    }
    // As an object and no archive: nothing refers to it, and it must be linked all the same.
    for object in cc::Build::new()
        .file("src/closed_streams.c")
        .warnings(true)
        .compile_intermediates()
    {
        println!("cargo::rustc-link-arg-bins={}", object.display());
    }
}
