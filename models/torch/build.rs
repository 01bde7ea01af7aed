//! Finds libtorch, says plainly where it is missing, and lets this package's tests and the
//! binaries of others find its libraries at run time without `LD_LIBRARY_PATH`.
//!
//! A binary's package repeats [`main`]'s link arguments from `DEP_BACE_TORCH_LINK_ARGS`, since
//! cargo hands link arguments to the package's own targets only.

use std::path::Path;

const VERSION: &str = "2.13.0";

fn main() {
    println!("cargo::rustc-env=BACE_LIBTORCH_VERSION={VERSION}");
    println!("cargo::rerun-if-env-changed=LIBTORCH");
    let Ok(folder) = std::env::var("LIBTORCH") else {
        println!("cargo::error=LIBTORCH is not set; build from within the repository");
        return;
    };
    let folder = Path::new(&folder);
    println!(
        "cargo::rerun-if-changed={}",
        folder.join("lib/libtorch_cpu.so").display()
    );
    // The CUDA kind's libraries find each other relative to their true place.
    let Ok(libraries) = folder.join("lib").canonicalize() else {
        println!(
            "cargo::error=no libtorch {VERSION} in {}; run scripts/libtorch first",
            folder.display()
        );
        return;
    };
    if !libraries.join("libtorch_cpu.so").exists() {
        println!(
            "cargo::error={} holds no libtorch_cpu.so; run scripts/libtorch first",
            libraries.display()
        );
        return;
    }

    let mut arguments = vec![format!("-Wl,-rpath,{}", libraries.display())];
    let cuda = libraries.join("libtorch_cuda.so");
    if cuda.exists() {
        // Nothing refers to a symbol of it: it registers itself when it is loaded.
        // What it needs itself lies in folders that only the loader finds.
        arguments.push("-Wl,--allow-shlib-undefined".to_owned());
        arguments.push("-Wl,--no-as-needed".to_owned());
        arguments.push(cuda.display().to_string());
        arguments.push("-Wl,--as-needed".to_owned());
    }
    for argument in &arguments {
        println!("cargo::rustc-link-arg={argument}");
    }
    println!("cargo::metadata=link_args={}", arguments.join("\t"));
    println!("cargo::rustc-env=BACE_LIBTORCH={}", folder.display());
}
