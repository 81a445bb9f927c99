//! Links the two pieces that no safe Rust can be: see `src/closed_streams.c` and `src/give_back.c`.
//!
//! Knows nothing of the program otherwise.

fn main() {
    println!("cargo::rerun-if-changed=src/closed_streams.c");
    if std::env::var("CARGO_CFG_TARGET_OS").as_deref() != Ok("linux") {
        return;
    }
    println!("cargo::rerun-if-changed=src/give_back.c");
    // As objects and no archive: nothing refers to them, and they must be linked all the same.
    for object in cc::Build::new()
        .file("src/closed_streams.c")
        .file("src/give_back.c")
        .warnings(true)
        .compile_intermediates()
    {
        println!("cargo::rustc-link-arg-bins={}", object.display());
    }
}
