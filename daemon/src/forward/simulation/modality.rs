//! The modality: what it has, when it hands it over, and what it was told.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::Duration;

use idr_dimse::association::Context;
use idr_dimse::association::negotiation::{Implementation, Request, Roles};
use idr_dimse::service::storage::StoreRequest;
use rand::Rng as _;
use rand::rngs::StdRng;
use sha2::{Digest as _, Sha256};

use crate::admission::{Ingress, Peer};
use crate::forward::tests::centre::Fuse;
use crate::test_send::study::{EXPLICIT_VR_LITTLE_ENDIAN, SOP_CLASS_UID, Synthetic};

pub const AE_TITLE: &str = "CT1";
pub const INBOUND: &str = "ct-1";
pub const LOCAL_AE_TITLE: &str = "IDRSITE";

/// An instance, and the first that was said of it.
pub struct Image {
    pub study_uid: String,
    pub sop_instance_uid: String,
    pub sha256: [u8; 32],
    pub bytes: Arc<Vec<u8>>,
    /// When it is handed over, monotonic; several times, perhaps. What was not answered with success is handed over again.
    pub due: Vec<Duration>,
    /// Handed over at least once.
    pub tried: bool,
    /// Answered with success.
    pub acknowledged: bool,
    /// The last answer.
    pub said: String,
}

/// All that a modality has.
pub struct Modality {
    pub images: Vec<Image>,
    pub by_uid: BTreeMap<String, usize>,
    /// The success is taken for given when the last byte is sent: a fault of the world.
    pub hopes: bool,
}

impl Modality {
    /// Studies of small images, handed over within `span`.
    pub fn new(random: &mut StdRng, span: Duration) -> Self {
        let mut images = Vec::new();
        let date = jiff::civil::date(2026, 1, 15).at(8, 0, 0, 0);
        for _ in 0..random.random_range(1..5) {
            let mut synthetic = Synthetic::new(random.random_range(1..8), false, &date, random);
            synthetic.matrix = 8;
            let begin = span.mul_f64(random.random());
            for number in 1..=synthetic.instances() {
                let mut due = vec![begin + Duration::from_secs(random.random_range(0..600))];
                if random.random_bool(0.15) {
                    // Late, or handed over once more.
                    let later = due[0] + Duration::from_secs(random.random_range(0..20_000));
                    if random.random() { due.push(later) } else { due = vec![later] }
                }
                images.push(Image::new(&synthetic, number, due));
            }
        }
        let by_uid = images.iter().enumerate().map(|(at, image)| (image.sop_instance_uid.clone(), at)).collect();
        Self { images, by_uid, hopes: false }
    }

    /// What is to be handed over now, with its bytes.
    pub fn due(&mut self, now: Duration) -> Vec<(usize, Arc<Vec<u8>>)> {
        let mut found = Vec::new();
        for (at, image) in self.images.iter_mut().enumerate() {
            let before = image.due.len();
            image.due.retain(|due| *due > now);
            if image.due.len() < before {
                image.tried = true;
                image.acknowledged |= self.hopes;
                found.push((at, image.bytes.clone()));
            }
        }
        found
    }

    /// What had no success is handed over again at that time.
    pub fn repeat(&mut self, at: Duration) {
        for image in self.images.iter_mut().filter(|image| image.tried && !image.acknowledged && image.due.is_empty()) {
            image.due.push(at);
        }
    }
}

impl Image {
    pub fn new(synthetic: &Synthetic, number: u32, due: Vec<Duration>) -> Self {
        let bytes = synthetic.data_set(number);
        Self {
            study_uid: synthetic.study_uid().to_owned(),
            sop_instance_uid: synthetic.instance_uid(number),
            sha256: Sha256::digest(&bytes).into(),
            bytes: Arc::new(bytes),
            due,
            tried: false,
            acknowledged: false,
            said: String::new(),
        }
    }
}

/// Hands an image over as an association does; gives the answer, and whether it is a success.
pub async fn hand_over(ingress: &Arc<Ingress>, fuse: &Fuse, sop_instance_uid: &str, bytes: &[u8]) -> (bool, String) {
    let peer = Peer { address: IpAddr::V4(Ipv4Addr::LOCALHOST), tls: false, certificate_sha256: None };
    let request = Request::new(AE_TITLE, LOCAL_AE_TITLE, Implementation::default());
    let admitted = match ingress.associate(&request, &peer) {
        Ok(admitted) => admitted,
        Err(rejection) => return (false, format!("{rejection:?}")),
    };
    let context = Context {
        id: 1,
        abstract_syntax: SOP_CLASS_UID.to_owned(),
        transfer_syntax: EXPLICIT_VR_LITTLE_ENDIAN.to_owned(),
        roles: Roles { scu: true, scp: false },
    };
    let request = StoreRequest {
        message_id: 1,
        sop_class_uid: Some(SOP_CLASS_UID.to_owned()),
        sop_instance_uid: Some(sop_instance_uid.to_owned()),
        move_originator: None,
    };
    let mut reception = ingress.receive(&admitted, &peer, &context, &request).await;
    for piece in bytes.chunks(700) {
        reception.feed(piece).await;
        fuse.step().await;
    }
    let outcome = Box::new(reception).finish().await;
    fuse.step().await;
    let status = outcome.status.0;
    (status == 0 || status & 0xF000 == 0xB000, format!("{status:04X}H {:?}", outcome.error_comment))
}
