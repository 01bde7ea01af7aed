//! Standard output, which may be a pipe that nobody reads to its end.

use std::fmt::Arguments;
use std::io::{ErrorKind, Write};

/// Prints a line on standard output, as `println!` does, but without its panics.
macro_rules! say {
    ($($words:tt)*) => {
        $crate::output::print(format_args!("{}\n", format_args!($($words)*)))
    };
}

pub(crate) use say;

/// Prints on standard output. Where nobody reads any more (`| head`) the process ends without a word, where it
/// cannot be written (a full disk) with the reason: both times with the status of a failed run.
pub fn print(text: Arguments<'_>) {
    let mut output = std::io::stdout().lock();
    if let Err(error) = output.write_fmt(text).and_then(|()| output.flush()) {
        if error.kind() != ErrorKind::BrokenPipe {
            eprintln!("bace: failed to write to standard output: {error}");
        }
        std::process::exit(crate::FAILED.into());
    }
}
