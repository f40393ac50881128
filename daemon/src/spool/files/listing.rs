//! Which object files there are.

use super::super::disk::Disk;
use super::super::object_file;
use super::super::record::{SpoolId, Tenant};
use std::io;
use std::path::{Path, PathBuf};

/// All object files, in order of their ids. A start and a check hold the whole list: 16 bytes a file, where a path each would be
/// ten times as much.
#[derive(Debug, Default)]
pub(super) struct Listing {
    tenants: Vec<Tenant>,
    /// Id, and position of its tenant.
    files: Vec<(SpoolId, u32)>,
    /// Names under `objects/` that are not ours.
    pub(super) foreign: Vec<PathBuf>,
}

impl Listing {
    /// Lists them.
    ///
    /// # Errors
    /// What the disk says.
    pub(super) fn read(disk: &dyn Disk) -> io::Result<Self> {
        let mut listing = Self::default();
        let root = Path::new("objects");
        for item in disk.list(root)? {
            let folder = root.join(&item.name);
            match item.name.parse() {
                Ok(tenant) if item.folder => listing.read_tenant(disk, &folder, tenant)?,
                _ => listing.foreign.push(folder),
            }
        }
        // Of two files with one id the first is ours; the sort keeps their order.
        listing.files.sort_by_key(|(id, _)| *id);
        let mut seen = None;
        let (tenants, foreign) = (&listing.tenants, &mut listing.foreign);
        listing.files.retain(|(id, tenant)| {
            let second = seen.replace(*id) == Some(*id);
            if second {
                foreign.extend(path(tenants, *id, *tenant));
            }
            !second
        });
        Ok(listing)
    }

    fn read_tenant(&mut self, disk: &dyn Disk, folder: &Path, tenant: Tenant) -> io::Result<()> {
        let number = u32::try_from(self.tenants.len()).map_err(io::Error::other)?;
        self.tenants.push(tenant);
        for part in disk.list(folder)? {
            let folder = folder.join(&part.name);
            if !part.folder {
                self.foreign.push(folder);
                continue;
            }
            for file in disk.list(&folder)? {
                match object_file::id_of(&file.name).filter(|id| !file.folder && part.name == object_file::part(*id)) {
                    Some(id) => self.files.push((id, number)),
                    None => self.foreign.push(folder.join(&file.name)),
                }
            }
        }
        Ok(())
    }

    /// The greatest id.
    pub(super) fn last(&self) -> Option<SpoolId> {
        self.files.last().map(|(id, _)| *id)
    }

    /// Ids below `end`, ascending.
    pub(super) fn below(&self, end: SpoolId) -> impl Iterator<Item = SpoolId> {
        self.files.iter().map(|(id, _)| *id).take_while(move |id| *id < end)
    }

    /// Files from `from` on, in order.
    pub(super) fn from(&self, from: SpoolId) -> impl Iterator<Item = (SpoolId, PathBuf)> {
        let at = self.files.partition_point(|(id, _)| *id < from);
        let rest = self.files.get(at..).unwrap_or_default();
        rest.iter().filter_map(|(id, tenant)| Some((*id, path(&self.tenants, *id, *tenant)?)))
    }

    /// Where an id has its file.
    pub(super) fn get(&self, id: SpoolId) -> Option<PathBuf> {
        self.from(id).next().filter(|(found, _)| *found == id).map(|(_, path)| path)
    }
}

fn path(tenants: &[Tenant], id: SpoolId, tenant: u32) -> Option<PathBuf> {
    let tenant = tenants.get(usize::try_from(tenant).ok()?)?;
    Some(Path::new("objects").join(tenant.as_str()).join(object_file::part(id)).join(object_file::name(id)))
}

#[cfg(test)]
mod tests {
    use super::super::super::disk::{MemoryDisk, create_folders};
    use super::*;

    #[test]
    fn files_come_in_order_and_what_is_not_ours_is_named() {
        let disk = MemoryDisk::default();
        let ids = [0x1_0102, 3, 0x0_01FF].map(SpoolId);
        let place = |tenant: &str, id: SpoolId| Path::new("objects").join(tenant).join(object_file::part(id)).join(object_file::name(id));
        let mut made = Vec::new();
        for (tenant, id) in [("t1", ids[0]), ("t1", ids[1]), ("t2", ids[2]), ("t2", ids[1])] {
            create_folders(&disk, place(tenant, id).parent().expect("a folder")).expect("works");
            disk.create(&place(tenant, id)).expect("works");
            made.push(place(tenant, id));
        }
        disk.create(Path::new("objects/t1/notes.txt")).expect("works");
        let listing = Listing::read(&disk).expect("works");
        let expected = [(ids[1], made[1].clone()), (ids[2], made[2].clone()), (ids[0], made[0].clone())];
        assert_eq!(listing.from(SpoolId(0)).collect::<Vec<_>>(), expected);
        assert_eq!(listing.from(SpoolId(4)).count(), 2);
        assert_eq!(listing.below(SpoolId(0x1_0102)).collect::<Vec<_>>(), [ids[1], ids[2]]);
        assert_eq!((listing.get(ids[2]), listing.get(SpoolId(4)), listing.last()), (Some(made[2].clone()), None, Some(ids[0])));
        assert_eq!(listing.foreign, [Path::new("objects/t1/notes.txt"), &made[3]], "a second file of one id is not ours");
    }
}
