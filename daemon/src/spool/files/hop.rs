//! Where blocking work runs.

use super::super::SpoolError;
use tokio::task::JoinHandle;

/// How disk work leaves the async threads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Hop {
    /// On the runtime's blocking threads.
    Blocking,
    /// At once, on the calling thread: for simulations, where the order of all steps must follow from a seed.
    Inline,
}

/// Work that was started.
pub enum Started<T> {
    /// It is done.
    Done(T),
    /// It runs.
    Running(JoinHandle<T>),
}

impl Hop {
    /// Starts work; it ends even if nobody waits for it.
    pub fn start<T: Send + 'static>(self, work: impl FnOnce() -> T + Send + 'static) -> Started<T> {
        match self {
            Self::Blocking => Started::Running(tokio::task::spawn_blocking(work)),
            Self::Inline => Started::Done(work()),
        }
    }

    /// Does work.
    ///
    /// # Errors
    /// [`SpoolError::Stopped`] when the runtime ends first, or the work panicked.
    pub async fn run<T: Send + 'static>(self, work: impl FnOnce() -> T + Send + 'static) -> Result<T, SpoolError> {
        self.start(work).wait().await
    }
}

impl<T> Started<T> {
    /// Waits for the work.
    ///
    /// # Errors
    /// [`SpoolError::Stopped`] when the runtime ends first, or the work panicked.
    pub async fn wait(self) -> Result<T, SpoolError> {
        match self {
            Self::Done(done) => Ok(done),
            Self::Running(running) => running.await.map_err(|_| SpoolError::Stopped),
        }
    }
}
