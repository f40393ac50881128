//! A modality that reports its procedure steps (MPPS SCU) and which instances are to be had (IAN SCU).

use dicom_core::value::DataSetSequence;
use dicom_core::{DataElement, PrimitiveValue, Tag, VR};
use dicom_dictionary_std::tags;
use dicom_dictionary_std::uids::{EXPLICIT_VR_LITTLE_ENDIAN, INSTANCE_AVAILABILITY_NOTIFICATION, MODALITY_PERFORMED_PROCEDURE_STEP};
use dicom_object::InMemDicomObject;
use idr_dimse::message::command_set::{CommandField, CommandSet, Element};
use idr_dimse::status::Status;

use super::{Association, AssociationError, Modality};
use crate::fixtures::study::{Instance, Study};

impl Modality {
    /// Begins a step of a study (N-CREATE); gives the status of the answer.
    ///
    /// # Errors
    /// [`AssociationError`]: then there is no answer.
    pub async fn begin_step(&self, uid: &str, study: &Study) -> Result<Status, AssociationError> {
        let mut scheduled = InMemDicomObject::new_empty();
        put(&mut scheduled, tags::STUDY_INSTANCE_UID, VR::UI, &study.uid);
        let mut step = InMemDicomObject::new_empty();
        for (tag, vr, value) in [
            (tags::MODALITY, VR::CS, "CT"),
            (tags::PATIENT_ID, VR::LO, study.person.hetu.as_str()),
            (tags::PERFORMED_STATION_AE_TITLE, VR::AE, self.calling.as_str()),
            (tags::PERFORMED_PROCEDURE_STEP_START_DATE, VR::DA, "20260115"),
            (tags::PERFORMED_PROCEDURE_STEP_START_TIME, VR::TM, "101530"),
            (tags::PERFORMED_PROCEDURE_STEP_STATUS, VR::CS, "IN PROGRESS"),
            (tags::PERFORMED_PROCEDURE_STEP_ID, VR::SH, "1"),
        ] {
            put(&mut step, tag, vr, value);
        }
        put_items(&mut step, tags::SCHEDULED_STEP_ATTRIBUTES_SEQUENCE, vec![scheduled]);
        put_items(&mut step, tags::PERFORMED_SERIES_SEQUENCE, Vec::new());
        self.create(MODALITY_PERFORMED_PROCEDURE_STEP, uid, &step).await
    }

    /// Ends a step with `COMPLETED` or `DISCONTINUED` and what it has made (N-SET); gives the status of the answer.
    ///
    /// # Errors
    /// [`AssociationError`]: then there is no answer.
    pub async fn end_step(&self, uid: &str, state: &str, instances: &[Instance]) -> Result<Status, AssociationError> {
        let mut series = InMemDicomObject::new_empty();
        put(&mut series, tags::PROTOCOL_NAME, VR::LO, "Thorax");
        put_items(&mut series, tags::REFERENCED_IMAGE_SEQUENCE, instances.iter().map(reference).collect());
        let mut step = InMemDicomObject::new_empty();
        put(&mut step, tags::PERFORMED_PROCEDURE_STEP_STATUS, VR::CS, state);
        put(&mut step, tags::PERFORMED_PROCEDURE_STEP_END_DATE, VR::DA, "20260115");
        put(&mut step, tags::PERFORMED_PROCEDURE_STEP_END_TIME, VR::TM, "102530");
        put_items(&mut step, tags::PERFORMED_SERIES_SEQUENCE, vec![series]);
        let mut command = CommandSet::request(CommandField::N_SET_RQ, 1, true);
        command.set_uid(Element::REQUESTED_SOP_CLASS_UID, MODALITY_PERFORMED_PROCEDURE_STEP);
        command.set_uid(Element::REQUESTED_SOP_INSTANCE_UID, uid);
        self.say(MODALITY_PERFORMED_PROCEDURE_STEP, &command, &step).await
    }

    /// Says that instances of a study are to be had (N-CREATE); gives the status of the answer.
    ///
    /// # Errors
    /// [`AssociationError`]: then there is no answer.
    pub async fn notify(&self, uid: &str, study: &Study) -> Result<Status, AssociationError> {
        let listed = study.instances.iter().map(|instance| {
            let mut item = reference(instance);
            put(&mut item, tags::INSTANCE_AVAILABILITY, VR::CS, "ONLINE");
            put(&mut item, tags::RETRIEVE_AE_TITLE, VR::AE, "PACS");
            item
        });
        let mut series = InMemDicomObject::new_empty();
        put(&mut series, tags::SERIES_INSTANCE_UID, VR::UI, &format!("{}.1", study.uid));
        put_items(&mut series, tags::REFERENCED_SOP_SEQUENCE, listed.collect());
        let mut notice = InMemDicomObject::new_empty();
        put(&mut notice, tags::STUDY_INSTANCE_UID, VR::UI, &study.uid);
        put_items(&mut notice, tags::REFERENCED_PERFORMED_PROCEDURE_STEP_SEQUENCE, Vec::new());
        put_items(&mut notice, tags::REFERENCED_SERIES_SEQUENCE, vec![series]);
        self.create(INSTANCE_AVAILABILITY_NOTIFICATION, uid, &notice).await
    }

    async fn create(&self, sop_class: &str, uid: &str, data: &InMemDicomObject) -> Result<Status, AssociationError> {
        let mut command = CommandSet::request(CommandField::N_CREATE_RQ, 1, true);
        command.set_uid(Element::AFFECTED_SOP_CLASS_UID, sop_class);
        command.set_uid(Element::AFFECTED_SOP_INSTANCE_UID, uid);
        self.say(sop_class, &command, data).await
    }

    async fn say(&self, sop_class: &str, command: &CommandSet, data: &InMemDicomObject) -> Result<Status, AssociationError> {
        let contexts = [(sop_class.to_owned(), vec![EXPLICIT_VR_LITTLE_ENDIAN.to_owned()])];
        let mut association = Association::open(self, &contexts).await?;
        let data = Instance::encode(data, EXPLICIT_VR_LITTLE_ENDIAN).data_set;
        let response = association.perform(sop_class, command, data.into()).await?;
        association.release().await?;
        response.status().ok_or_else(|| AssociationError::Answer("a response without a status".to_owned()))
    }
}

fn reference(instance: &Instance) -> InMemDicomObject {
    let mut item = InMemDicomObject::new_empty();
    put(&mut item, tags::REFERENCED_SOP_CLASS_UID, VR::UI, &instance.sop_class);
    put(&mut item, tags::REFERENCED_SOP_INSTANCE_UID, VR::UI, &instance.sop_instance);
    item
}

fn put(object: &mut InMemDicomObject, tag: Tag, vr: VR, value: &str) {
    object.put(DataElement::new(tag, vr, PrimitiveValue::from(value)));
}

fn put_items(object: &mut InMemDicomObject, tag: Tag, items: Vec<InMemDicomObject>) {
    object.put(DataElement::new(tag, VR::SQ, DataSetSequence::from(items)));
}
