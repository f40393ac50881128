//! What a modality sends.

use std::sync::Arc;

use bytes::Bytes;
use dicom_dictionary_std::uids;
use idr_profile::digest::{Digest, Digester};

use crate::fixtures::study::{Instance, Kind, Recipe};

/// An encoded data set, or how to make it piece by piece.
#[derive(Clone)]
pub enum DataSet {
    /// All of it.
    Whole(Bytes),
    /// Pieces of even length, the same at every call.
    Made(Arc<dyn Fn() -> Box<dyn Iterator<Item = Bytes> + Send> + Send + Sync>),
}

impl DataSet {
    /// Its pieces in order.
    pub fn pieces(&self) -> Box<dyn Iterator<Item = Bytes> + Send> {
        match self {
            Self::Whole(bytes) => Box::new(std::iter::once(bytes.clone())),
            Self::Made(make) => make(),
        }
    }
}

/// One object to send.
#[derive(Clone)]
pub struct Outgoing {
    /// Affected SOP Class UID, and abstract syntax of its presentation context.
    pub sop_class: String,
    /// Affected SOP Instance UID.
    pub sop_instance: String,
    /// Transfer Syntax UID.
    pub transfer_syntax: String,
    /// The data set.
    pub data_set: DataSet,
}

impl Outgoing {
    /// Digest by profile 01 §3.1.
    pub fn digest(&self) -> Digest {
        let mut digester = Digester::new(&self.transfer_syntax);
        self.data_set.pieces().for_each(|piece| digester.update(&piece));
        digester.finish()
    }

    /// Length of the data set, bytes.
    pub fn size_bytes(&self) -> u64 {
        self.data_set.pieces().map(|piece| piece.len() as u64).sum()
    }
}

impl From<&Instance> for Outgoing {
    fn from(instance: &Instance) -> Self {
        Self {
            sop_class: instance.sop_class.clone(),
            sop_instance: instance.sop_instance.clone(),
            transfer_syntax: instance.transfer_syntax.clone(),
            data_set: DataSet::Whole(instance.data_set.clone().into()),
        }
    }
}

/// A multi-frame ultrasound object of any size, made while it is sent: 1 MiB a frame, 8 bit, 1024 × 1024.
pub struct Large {
    /// Whose study it is, and its seed; kind, number and matrix are of no account.
    pub recipe: Recipe,
    /// Frames, 1–4095: so many MiB of pixels.
    pub frames: u32,
}

impl Large {
    /// Bytes of one frame.
    const FRAME: usize = 1024 * 1024;

    /// The object.
    pub fn make(&self) -> Outgoing {
        let recipe = Recipe { kind: Kind::UsMultiFrame, instances: 1, matrix: 1024, ..self.recipe.clone() };
        let (head, sop_instance) = recipe.head_of_multi_frame(self.frames);
        let head = {
            let mut head = head;
            head.extend_from_slice(&[0xE0, 0x7F, 0x10, 0x00, b'O', b'B', 0, 0]);
            head.extend_from_slice(&(self.frames * Self::FRAME as u32).to_le_bytes());
            Bytes::from(head)
        };
        let (frames, seed) = (self.frames, self.recipe.seed);
        let make = move || -> Box<dyn Iterator<Item = Bytes> + Send> {
            // One frame of noise, turned by a prime from frame to frame: cheap, and no two frames are alike.
            let mut noise = vec![0; Self::FRAME];
            rand::RngCore::fill_bytes(&mut <rand::rngs::SmallRng as rand::SeedableRng>::seed_from_u64(u64::from(seed)), &mut noise);
            let noise = Bytes::from(noise);
            let frames = (0..frames as usize).flat_map(move |frame| {
                let turn = ((frame * 7919) % Self::FRAME) & !1;
                [noise.slice(turn..), noise.slice(..turn)]
            });
            Box::new(std::iter::once(head.clone()).chain(frames.filter(|piece| !piece.is_empty())))
        };
        Outgoing {
            sop_class: uids::ULTRASOUND_MULTI_FRAME_IMAGE_STORAGE.to_owned(),
            sop_instance,
            transfer_syntax: uids::EXPLICIT_VR_LITTLE_ENDIAN.to_owned(),
            data_set: DataSet::Made(Arc::new(make)),
        }
    }
}
