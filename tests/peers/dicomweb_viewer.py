"""Searches and retrieves by dicomweb-client, with a fresh token in each request.

dicomweb_viewer.py URL WORLD MAKE_ASSERTION PATIENT_CX STUDY_UID FOLDER
Writes each instance to FOLDER as it came; prints one JSON object: what was found, and what metadata and headers say.
"""
import json
import pathlib
import subprocess
import sys
import uuid

from dicomweb_client.api import DICOMwebClient
from pydicom import Dataset, dcmread
import requests

url, world, make_assertion, patient, study, folder = sys.argv[1:]
certificate = f"{world}/keys/hospital-viewer.pem"


class Token(requests.auth.AuthBase):
    def __call__(self, request):
        token = subprocess.run([make_assertion, "--world", world, "--patient", patient, "--form", "jwt", "--tls", certificate],
                               check=True, capture_output=True, text=True).stdout.strip()
        request.headers["Authorization"] = f"Bearer {token}"
        return request


session = requests.Session()
session.trust_env = False
session.verify = f"{world}/keys/tls-ca.pem"
session.cert = (certificate, f"{world}/keys/hospital-viewer.key")
session.auth = Token()
client = DICOMwebClient(url, session=session)

studies = [Dataset.from_json(found) for found in client.search_for_studies(search_filters={"StudyInstanceUID": study})]
series = [Dataset.from_json(found) for found in client.search_for_series(study)]
instances = [Dataset.from_json(found) for found in client.search_for_instances(study, series[0].SeriesInstanceUID)]
pages = [client.search_for_instances(study, limit=1, offset=at) for at in range(len(instances))]
retrieved = client.retrieve_study(study, media_types=(("application/dicom", "*"),))
metadata = [Dataset.from_json(found) for found in client.retrieve_study_metadata(study)]
names = []
for dataset in retrieved:
    name = pathlib.Path(folder) / f"{uuid.uuid4()}.dcm"
    dataset.save_as(name, enforce_file_format=True)
    names.append(str(dcmread(name).SOPInstanceUID))
print(json.dumps({
    "studies": [[str(found.StudyInstanceUID), int(found.NumberOfStudyRelatedSeries), int(found.NumberOfStudyRelatedInstances),
                 [found.ModalitiesInStudy] if isinstance(found.ModalitiesInStudy, str) else list(found.ModalitiesInStudy),
                 str(found.PatientName)] for found in studies],
    "series": [str(found.SeriesInstanceUID) for found in series],
    "instances": sorted(str(found.SOPInstanceUID) for found in instances),
    "pages": sorted(found["00080018"]["Value"][0] for page in pages for found in page),
    "retrieved": sorted(names),
    # What metadata says of each instance is what its header says, pixels apart.
    "described": sorted(str(described.SOPInstanceUID) for described in metadata if any(
        described.SOPInstanceUID == dataset.SOPInstanceUID and
        {e.tag: e.value for e in described} == {e.tag: e.value for e in dataset if e.keyword != "PixelData"}
        for dataset in retrieved)),
    "differences": [[str(e.tag), str(e.value), str(dataset.get(e.tag).value if e.tag in dataset else None)]
                    for described in metadata for dataset in retrieved if described.SOPInstanceUID == dataset.SOPInstanceUID
                    for e in described if e.tag not in dataset or dataset[e.tag].value != e.value][:5],
}))
