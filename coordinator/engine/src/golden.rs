//! Golden files of this crate's tests, in `tests/golden`.

use std::path::Path;

/// Compares `actual` with the golden file `name`; with `UPDATE_GOLDEN=1` the file is written anew.
#[expect(clippy::disallowed_methods, reason = "a golden file is a file")]
pub(crate) fn golden(name: &str, actual: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/golden")
        .join(name);
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, actual).unwrap();
    }
    let expected = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(
        expected == actual,
        "{name} differs; UPDATE_GOLDEN=1 renews it. It is now:\n{actual}"
    );
}
