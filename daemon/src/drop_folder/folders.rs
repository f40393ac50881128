//! The drop folders of the inbound table: one task each, begun and ended as the table changes.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;

use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::admission::Ingress;
use crate::config::Inbound;

/// Tasks of the drop folders.
pub struct Folders {
    ingress: Arc<Ingress>,
    tasks: TaskTracker,
    stop: CancellationToken,
    running: tokio::sync::Mutex<HashMap<PathBuf, Running>>,
}

struct Running {
    row: Arc<Inbound>,
    stop: CancellationToken,
    task: JoinHandle<()>,
}

impl Folders {
    /// None yet. They run in `tasks` and end with `stop`.
    pub fn new(ingress: Arc<Ingress>, tasks: TaskTracker, stop: CancellationToken) -> Self {
        Self { ingress, tasks, stop, running: tokio::sync::Mutex::default() }
    }

    /// Takes in the folders of these rows and no others. A folder whose row changed is left first, when what is being committed
    /// from it is: no two tasks look into one folder.
    pub async fn follow(&self, rows: &[Inbound]) {
        let mut running = self.running.lock().await;
        let wanted: HashMap<&PathBuf, &Inbound> = rows.iter().filter_map(|row| Some((row.drop_folder.as_ref()?, row))).collect();
        let left: Vec<PathBuf> =
            running.iter().filter(|(root, one)| wanted.get(root) != Some(&&*one.row)).map(|(root, _)| root.clone()).collect();
        let left: Vec<Running> = left.iter().filter_map(|root| running.remove(root)).collect();
        left.iter().for_each(|one| one.stop.cancel());
        for one in left {
            if let Err(error) = one.task.await {
                tracing::error!(inbound = one.row.name, %error, "taking in a drop folder ended by a fault");
            }
        }
        for (root, row) in wanted {
            running.entry(root.clone()).or_insert_with(|| {
                let (row, stop) = (Arc::new(row.clone()), self.stop.child_token());
                let task = self.tasks.spawn(super::run(self.ingress.clone(), row.clone(), root.clone(), stop.clone()));
                Running { row, stop, task }
            });
        }
    }
}
