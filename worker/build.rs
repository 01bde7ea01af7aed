//! Lets the binary find libtorch at run time without `LD_LIBRARY_PATH`.

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    // Told by bace-torch's build script, which found the folder and checked it.
    if let Ok(arguments) = std::env::var("DEP_BACE_TORCH_LINK_ARGS") {
        for argument in arguments.split('\t') {
            println!("cargo::rustc-link-arg-bins={argument}");
        }
    }
}
