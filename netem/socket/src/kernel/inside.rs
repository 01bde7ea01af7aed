//! A thread inside a network namespace.

use std::fs::File;
use std::io;
use std::marker::PhantomData;
use std::os::fd::AsFd;
use std::path::Path;

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use super::KernelError;
use super::network::NAMESPACES;

/// The calling thread inside a namespace: sockets that it opens, and threads and processes that it starts, belong
/// there. It returns to where it was when this is dropped.
#[derive(Debug)]
pub struct Inside {
    name: String,
    home: File,
    /// It is this thread that has to return.
    _thread: PhantomData<*const ()>,
}

impl Inside {
    /// Moves the calling thread into the namespace called `name`.
    ///
    /// # Errors
    /// When there is none of that name, or this process may not.
    pub fn enter(name: &str) -> Result<Self, KernelError> {
        let enter = || {
            let home = File::open("/proc/thread-self/ns/net")?;
            let there = File::open(Path::new(NAMESPACES).join(name))?;
            go(&there)?;
            Ok(home)
        };
        let error = |source| KernelError::Enter {
            name: name.to_owned(),
            source,
        };
        Ok(Self {
            home: enter().map_err(error)?,
            name: name.to_owned(),
            _thread: PhantomData,
        })
    }
}

impl Drop for Inside {
    fn drop(&mut self) {
        if let Err(error) = go(&self.home) {
            tracing::error!(
                "failed to leave the network namespace {}: {error}",
                self.name
            );
        }
    }
}

fn go(namespace: &File) -> io::Result<()> {
    let kind = Some(LinkNameSpaceType::Network);
    Ok(move_into_link_name_space(namespace.as_fd(), kind)?)
}
