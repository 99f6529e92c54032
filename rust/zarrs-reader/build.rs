//! Makes the versions that decide a figure available to the program, from the lock and the compiler that built it, and
//! says which of zarrs' interfaces there is (src/zarrs_api).

use std::path::Path;
use std::process::Command;

fn main() {
    let lock_path = Path::new(&std::env::var("CARGO_MANIFEST_DIR").expect("cargo sets it")).join("../Cargo.lock");
    println!("cargo:rerun-if-changed={}", lock_path.display());
    let lock = std::fs::read_to_string(&lock_path).expect("Cargo.lock lies beside the workspace");
    for package in ["zarrs", "zarrs_object_store", "object_store"] {
        let version = locked(&lock, package).unwrap_or_else(|| panic!("Cargo.lock holds no {package}"));
        println!("cargo:rustc-env=VERSION_{}={version}", package.to_uppercase());
    }
    println!("cargo:rustc-check-cfg=cfg(zarrs_0_24)");
    if locked(&lock, "zarrs").is_some_and(|version| !version.starts_with("0.23.")) {
        println!("cargo:rustc-cfg=zarrs_0_24");
    }
    println!("cargo:rustc-env=VERSION_RUSTC={}", rustc());
}

fn locked<'a>(lock: &'a str, package: &str) -> Option<&'a str> {
    let (_, entry) = lock.split_once(&format!("name = \"{package}\"\nversion = \""))?;
    entry.split('"').next()
}

fn rustc() -> String {
    let compiler = std::env::var("RUSTC").unwrap_or_else(|_| "rustc".to_owned());
    let output = Command::new(compiler).arg("--version").output().expect("the compiler tells its version");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    text.split(' ').nth(1).unwrap_or("unknown").to_owned()
}
