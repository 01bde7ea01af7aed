//! Errors as people read them.

use std::error::Error;

/// An error's message, followed by those causes that the message does not end with already: some errors name
/// their cause in their own words and hand it on as well.
pub fn told(error: &(dyn Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        let words = cause.to_string();
        if !text.ends_with(&words) {
            text = format!("{text}: {words}");
        }
        next = cause.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use std::fmt;

    use super::*;

    #[derive(Debug)]
    struct Layer(&'static str, Option<Box<Layer>>);

    impl fmt::Display for Layer {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str(self.0)
        }
    }

    impl Error for Layer {
        fn source(&self) -> Option<&(dyn Error + 'static)> {
            self.1.as_deref().map(|cause| cause as _)
        }
    }

    #[test]
    fn every_cause_is_told_once() {
        let disk = || Layer("disk full", None);
        let repeating = Layer("write x: disk full", Some(Box::new(disk())));
        let silent = Layer("keep the ledger", Some(Box::new(repeating)));
        assert_eq!(told(&disk()), "disk full");
        assert_eq!(told(&silent), "keep the ledger: write x: disk full");
    }
}
