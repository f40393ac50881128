"""ITI-18, ITI-43 and RAD-69 by zeep, with a fresh assertion in each request.

zeep_consumer.py WSDL_FOLDER GATEWAY WORLD MAKE_ASSERTION PATIENT_CX STUDY_UID
Prints one JSON object: what was found and the SHA-256 of every document that came back.
"""
import base64
import hashlib
import json
import subprocess
import sys
import uuid

import requests
from lxml import etree
from zeep import Client, Plugin, Settings
from zeep.transports import Transport

wsdl_folder, gateway, world, make_assertion, patient, study = sys.argv[1:]
WSA = "http://www.w3.org/2005/08/addressing"
ENV = "http://www.w3.org/2003/05/soap-envelope"
RIM = "{urn:oasis:names:tc:ebxml-regrep:xsd:rim:3.0}"


class Headers(Plugin):
    """Completes the WS-Addressing headers that zeep takes from the WSDL, and adds a fresh wsse:Security."""

    def __init__(self, action):
        self.action = action

    def egress(self, envelope, http_headers, operation, binding_options):
        header = envelope.find(f"{{{ENV}}}Header")
        if header is None:
            header = etree.Element(f"{{{ENV}}}Header")
            envelope.insert(0, header)
        for name, text in (("Action", self.action), ("MessageID", f"urn:uuid:{uuid.uuid4()}"), ("To", gateway)):
            if header.find(f"{{{WSA}}}{name}") is None:
                etree.SubElement(header, f"{{{WSA}}}{name}").text = text
        header.find(f"{{{WSA}}}Action").set(f"{{{ENV}}}mustUnderstand", "1")
        if header.find(f"{{{WSA}}}ReplyTo") is None:
            reply = etree.SubElement(header, f"{{{WSA}}}ReplyTo")
            etree.SubElement(reply, f"{{{WSA}}}Address").text = f"{WSA}/anonymous"
        security = subprocess.run([make_assertion, "--world", world, "--patient", patient, "--form", "security"],
                                  check=True, capture_output=True, text=True).stdout
        header.append(etree.fromstring(security.strip(), etree.XMLParser(remove_blank_text=False)))
        return envelope, http_headers


def service(wsdl, binding, action):
    session = requests.Session()
    session.trust_env = False
    session.verify = f"{world}/keys/tls-ca.pem"
    session.cert = (f"{world}/keys/hospital-viewer.pem", f"{world}/keys/hospital-viewer.key")
    client = Client(f"{wsdl_folder}/{wsdl}", transport=Transport(session=session), plugins=[Headers(action)],
                    settings=Settings(strict=True, xml_huge_tree=True))
    for operation in client.wsdl.bindings[binding]._operations.values():
        operation.soapaction = action
    return client, client.create_service(binding, gateway)


def slot(client, name, values):
    values = client.get_type(f"{RIM}ValueListType")(_value_1=[{"Value": value} for value in values])
    return client.get_type(f"{RIM}SlotType1")(name=name, ValueList=values)


def find():
    client, registry = service("iti18.wsdl", "{urn:ihe:iti:xds-b:2007}DocumentRegistry_Binding_Soap12", "urn:ihe:iti:2007:RegistryStoredQuery")
    query = {
        "id": "urn:uuid:12941a89-e02e-4be5-967c-ce4bfc8fe492",
        "Slot": [
            slot(client, "$XDSDocumentEntryPatientId", [f"'{patient}'"]),
            slot(client, "$XDSDocumentEntryStatus", ["('urn:oasis:names:tc:ebxml-regrep:StatusType:Approved')"]),
            slot(client, "$XDSDocumentEntryReferenceIdList", [f"('{study}^^^^urn:ihe:iti:xds:2016:studyInstanceUID')"]),
        ],
    }
    # zeep does not read the substitution group of the answer's list: the envelope is taken as it came.
    with client.settings(raw_response=True):
        response = registry["DocumentRegistry_RegistryStoredQuery"](
            ResponseOption={"returnType": "LeafClass", "returnComposedObjects": True}, AdhocQuery=query)
    answer = etree.fromstring(response.content)
    status = answer.find(".//{urn:oasis:names:tc:ebxml-regrep:xsd:query:3.0}AdhocQueryResponse").get("status")
    assert status.endswith(":Success"), status
    return [(unique_id(entry), slot_value(entry, "repositoryUniqueId")) for entry in answer.iter(f"{RIM}ExtrinsicObject")]


def unique_id(entry):
    identifiers = entry.findall(f"{RIM}ExternalIdentifier")
    return next(i.get("value") for i in identifiers if i.get("identificationScheme") == "urn:uuid:2e82c1f6-a085-4c72-9da3-8640a32e42ab")


def slot_value(entry, name):
    return next(s.findtext(f"{RIM}ValueList/{RIM}Value") for s in entry.findall(f"{RIM}Slot") if s.get("name") == name)


def document_bytes(document):
    return document if isinstance(document, bytes) else base64.b64decode(document)


def retrieve_manifest(unique, repository):
    _, repo = service("iti43.wsdl", "{urn:ihe:iti:xds-b:2007}DocumentRepository_Binding_Soap12", "urn:ihe:iti:2007:RetrieveDocumentSet")
    response = repo["DocumentRepository_RetrieveDocumentSet"](
        DocumentRequest=[{"RepositoryUniqueId": repository, "DocumentUniqueId": unique}])
    assert response.RegistryResponse.status.endswith(":Success"), response.RegistryResponse.status
    return [document_bytes(d.Document) for d in response.DocumentResponse]


def references(manifest):
    import io

    from pydicom import dcmread
    kos = dcmread(io.BytesIO(manifest))
    for evidence in kos.CurrentRequestedProcedureEvidenceSequence:
        for series in evidence.ReferencedSeriesSequence:
            yield series.SeriesInstanceUID, [item.ReferencedSOPInstanceUID for item in series.ReferencedSOPSequence]


def retrieve_images(repository, series):
    # The schema of the IPF WSDL puts DocumentRequest into another namespace than RAD TF-3 §4.69 does; dcm4che's agrees with it.
    _, repo = service("../dcm4che-xdsi/wsdl/XDS-I.b_ImagingDocumentSource.wsdl", "{urn:ihe:rad:xdsi-b:2009}ImagingDocumentSource_Binding",
                      "urn:ihe:rad:2009:RetrieveImagingDocumentSet")
    request = [{
        "studyInstanceUID": study,
        "SeriesRequest": [{
            "seriesInstanceUID": uid,
            "DocumentRequest": [{"RepositoryUniqueId": repository, "DocumentUniqueId": instance} for instance in instances],
        } for uid, instances in series],
    }]
    response = repo["ImagingDocumentSource_RetrieveImagingDocumentSet"](
        StudyRequest=request, TransferSyntaxUIDList={"TransferSyntaxUID": ["1.2.840.10008.1.2.1"]})
    assert response.RegistryResponse.status.endswith(":Success"), response.RegistryResponse.status
    return {d.DocumentUniqueId: hashlib.sha256(document_bytes(d.Document)).hexdigest() for d in response.DocumentResponse}


found = find()
assert len(found) == 1, found
unique, repository = found[0]
manifest, = retrieve_manifest(unique, repository)
series = list(references(manifest))
print(json.dumps({
    "unique_id": unique,
    "manifest_sha256": hashlib.sha256(manifest).hexdigest(),
    "instances": retrieve_images(repository, series),
}))
