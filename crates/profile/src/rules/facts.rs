//! What the checks of one instance share: the scan, how it came, and what follows from both.

use super::check::Operand;
use super::classes::{SopClass, SopClasses};
use super::code_list::StudyCodes;
use super::iod::Iods;
use super::parameters::Parameters;
use super::set::Rules;
use crate::identifier::hetu::Parts;
use crate::scan::{DataSet, Scan, tags};
use dicom_core::Tag;
use idr_ihe::metadata::is_oid;
use jiff::Timestamp;
use jiff::civil::Date;

/// How an instance came.
#[derive(Debug, Clone, Copy)]
pub enum Source<'a> {
    /// C-STORE.
    Dimse {
        /// Affected SOP Class UID (0000,0002), without padding; empty if absent.
        affected_class: &'a str,
        /// Affected SOP Instance UID (0000,1000), without padding; empty if absent.
        affected_instance: &'a str,
        /// Abstract syntax of the presentation context.
        abstract_syntax: &'a str,
    },
    /// Part of a STOW-RS request.
    Stow {
        /// `{uid}` of `/studies/{uid}`.
        url_study: Option<&'a str>,
        /// Parameter `transfer-syntax` of the part's Content-Type.
        part_transfer_syntax: Option<&'a str>,
    },
    /// File of the drop folder: there is no one to answer.
    DropFolder,
}

/// Circumstances of one instance.
#[derive(Debug, Clone, Copy)]
pub struct Context<'a> {
    /// When its last byte came.
    pub received: Timestamp,
    /// How it came.
    pub source: Source<'a>,
    /// `patient_id_issuer` of the inbound row: OID for objects that name none (§3.2 step 4).
    pub patient_id_issuer: Option<&'a str>,
    /// `accession_issuer` of the inbound row.
    pub accession_issuer: Option<&'a str>,
    /// `refuse_to_quarantine` of the inbound row (§1 no. 3).
    pub refuse_to_quarantine: bool,
    /// `organisation_oids` of the site's controller map.
    pub organisation_oids: &'a [String],
}

/// Assigning authority of the patient id, and the step of §3.2 that gave it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ResolvedIssuer {
    /// Its OID.
    pub oid: String,
    /// 1 (0010,0024) · 2 (0010,0021) · 3 namespace map · 4 inbound row · 5 assumed hetu.
    pub step: u8,
}

pub(super) struct Facts<'a> {
    pub scan: &'a Scan,
    pub top: DataSet<'a>,
    pub context: &'a Context<'a>,
    pub parameters: &'a Parameters,
    pub classes: &'a SopClasses,
    pub codes: &'a StudyCodes,
    pub iods: &'a Iods,
    pub class_uid: Option<&'a str>,
    pub class: Option<&'a SopClass>,
    /// Receive date at the site.
    pub today: Date,
    pub patient_id: Option<String>,
    pub issuer: Option<ResolvedIssuer>,
    /// The patient id is under the hetu OID.
    pub is_hetu: bool,
    /// … and has its shape.
    pub hetu: Option<Parts>,
}

impl<'a> Facts<'a> {
    pub fn new(scan: &'a Scan, context: &'a Context<'a>, rules: &'a Rules) -> Self {
        let (parameters, classes, codes) = (rules.parameters(), rules.sop_classes(), rules.study_codes());
        let top = scan.data_set();
        let today = parameters.timezone.to_datetime(context.received).date();
        let patient_id = top.text(tags::PATIENT_ID);
        let class_uid = top.uid(tags::SOP_CLASS_UID);
        let issuer = issuer_of(top, parameters)
            .or_else(|| context.patient_id_issuer.map(|oid| ResolvedIssuer { oid: oid.to_owned(), step: 4 }))
            .or_else(|| {
                let holds = parameters.assume_hetu_without_issuer
                    && patient_id.as_deref().and_then(Parts::read).is_some_and(|parts| hetu_holds(&parts, today));
                holds.then(|| ResolvedIssuer { oid: parameters.hetu_issuer.clone(), step: 5 })
            });
        let is_hetu = issuer.as_ref().is_some_and(|issuer| issuer.oid == parameters.hetu_issuer);
        let hetu = if is_hetu { patient_id.as_deref().and_then(Parts::read) } else { None };
        Self {
            scan,
            top,
            context,
            parameters,
            classes,
            codes,
            iods: rules.iods(),
            class_uid,
            class: class_uid.and_then(|uid| classes.class(uid)),
            today,
            patient_id,
            issuer,
            is_hetu,
            hetu,
        }
    }

    pub fn text(&self, tag: Tag) -> Option<String> {
        self.top.text(tag)
    }

    /// The issuer matches `temp_issuer_pattern`.
    pub fn temporary_issuer(&self) -> Option<&str> {
        let oid = self.issuer.as_ref()?.oid.as_str();
        self.parameters.temp_issuer_pattern.is_match(oid).then_some(oid)
    }

    /// `None`: this source does not have it. An absent or empty value is the empty text.
    pub fn operand(&self, operand: Operand) -> Option<&str> {
        let meta = |tag| self.scan.file_meta.as_ref().map(|meta| meta.data_set().uid(tag).unwrap_or_default());
        let own = |tag| Some(self.top.uid(tag).unwrap_or_default());
        match (operand, self.context.source) {
            (Operand::AffectedClass | Operand::AnnouncedClass, Source::Dimse { affected_class, .. }) => Some(affected_class),
            (Operand::AffectedInstance | Operand::AnnouncedInstance, Source::Dimse { affected_instance, .. }) => Some(affected_instance),
            (Operand::AbstractSyntax, Source::Dimse { abstract_syntax, .. }) => Some(abstract_syntax),
            (Operand::AnnouncedClass, _) => meta(tags::MEDIA_STORAGE_SOP_CLASS_UID),
            (Operand::AnnouncedInstance, _) => meta(tags::MEDIA_STORAGE_SOP_INSTANCE_UID),
            (Operand::UrlStudy, Source::Stow { url_study, .. }) => url_study,
            (Operand::PartTransferSyntax, Source::Stow { part_transfer_syntax, .. }) => part_transfer_syntax,
            (Operand::Class, _) => own(tags::SOP_CLASS_UID),
            (Operand::Instance, _) => own(tags::SOP_INSTANCE_UID),
            (Operand::Study, _) => own(tags::STUDY_INSTANCE_UID),
            (Operand::TransferSyntax, _) => Some(&self.scan.transfer_syntax),
            _ => None,
        }
    }
}

/// Steps 1–3 of §3.2, at the top level or in an item of Other Patient IDs.
pub(super) fn issuer_of(level: DataSet<'_>, parameters: &Parameters) -> Option<ResolvedIssuer> {
    if let Some(oid) = iso_oid(level, tags::ISSUER_OF_PATIENT_ID_QUALIFIERS_SEQUENCE) {
        return Some(ResolvedIssuer { oid, step: 1 });
    }
    let text = level.text(tags::ISSUER_OF_PATIENT_ID)?;
    if is_oid(&text) {
        return Some(ResolvedIssuer { oid: text, step: 2 });
    }
    parameters.namespace_map.get(&text).map(|oid| ResolvedIssuer { oid: oid.clone(), step: 3 })
}

/// (0040,0032) of item 1, if (0040,0033) is `ISO`.
pub(super) fn iso_oid(level: DataSet<'_>, sequence: Tag) -> Option<String> {
    let item = level.items(sequence).next()?;
    (item.first_text(tags::UNIVERSAL_ENTITY_ID_TYPE)? == "ISO").then(|| item.first_text(tags::UNIVERSAL_ENTITY_ID)).flatten()
}

/// D305–D308 hold for a code of the right shape.
pub(super) fn hetu_holds(parts: &Parts, today: Date) -> bool {
    parts.birth_date().is_some_and(|birth| birth <= today) && parts.check_holds() && parts.number() >= 2
}
