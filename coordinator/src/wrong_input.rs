//! Errors that are the command line's or the scenario's fault: exit status 2.

use std::fmt;

/// Marks an error as one that the user mends by giving something else.
#[derive(Debug)]
pub struct WrongInput(String);

impl WrongInput {
    /// An error with this message, a fragment that fits after "failed to".
    pub fn error(message: impl Into<String>) -> anyhow::Error {
        anyhow::Error::new(Self(message.into()))
    }
}

impl fmt::Display for WrongInput {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for WrongInput {}

/// Turns any error into a wrong input.
pub trait OrWrongInput<T> {
    /// Marks the error, with all its causes in its message.
    fn or_wrong_input(self) -> anyhow::Result<T>;
}

impl<T, E: Into<anyhow::Error>> OrWrongInput<T> for Result<T, E> {
    fn or_wrong_input(self) -> anyhow::Result<T> {
        self.map_err(|error| WrongInput::error(bace_api::told(error.into().as_ref())))
    }
}
