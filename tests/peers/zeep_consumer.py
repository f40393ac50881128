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


class Headers(Plugin):
    """Adds the WS-Addressing headers and a fresh wsse:Security; zeep knows neither for SOAP 1.2 with this WSDL."""

    def __init__(self, action):
        self.action = action

    def egress(self, envelope, http_headers, operation, binding_options):
        header = envelope.find(f"{{{ENV}}}Header")
        if header is None:
            header = etree.Element(f"{{{ENV}}}Header")
            envelope.insert(0, header)
        action = etree.SubElement(header, f"{{{WSA}}}Action")
        action.text = self.action
        action.set(f"{{{ENV}}}mustUnderstand", "1")
        etree.SubElement(header, f"{{{WSA}}}MessageID").text = f"urn:uuid:{uuid.uuid4()}"
        reply = etree.SubElement(header, f"{{{WSA}}}ReplyTo")
        etree.SubElement(reply, f"{{{WSA}}}Address").text = f"{WSA}/anonymous"
        etree.SubElement(header, f"{{{WSA}}}To").text = gateway
        security = subprocess.run([make_assertion, "--world", world, "--patient", patient, "--form", "security"],
                                  check=True, capture_output=True, text=True).stdout
        # White space inside a signed element would be changed by a parser that pretty-prints; this one does not.
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
    rim = "{urn:oasis:names:tc:ebxml-regrep:xsd:rim:3.0}"
    values = client.get_type(f"{rim}ValueListType")(Value=values)
    return client.get_type(f"{rim}SlotType1")(name=name, ValueList=values)


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
    response = registry["DocumentRegistry_RegistryStoredQuery"](
        ResponseOption={"returnType": "LeafClass", "returnComposedObjects": True}, AdhocQuery=query)
    assert response.status.endswith(":Success"), response.status
    return [entry for entry in entries(response.RegistryObjectList)]


def entries(found):
    """Extrinsic objects as (uniqueId, repositoryUniqueId)."""
    for item in found.Identifiable or found._value_1 or []:
        entry = item["ExtrinsicObject"] if isinstance(item, dict) else getattr(item, "ExtrinsicObject", item)
        if entry is None or not hasattr(entry, "ExternalIdentifier"):
            continue
        unique = [i.value for i in entry.ExternalIdentifier if i.identificationScheme == "urn:uuid:2e82c1f6-a085-4c72-9da3-8640a32e42ab"]
        repository = [s.ValueList.Value[0] for s in entry.Slot if s.name == "repositoryUniqueId"]
        yield unique[0], repository[0]


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
    _, repo = service("rad69.wsdl", "{urn:ihe:rad:xdsi-b:2009}DocumentRepository_Binding_Soap12", "urn:ihe:rad:2009:RetrieveImagingDocumentSet")
    request = [{
        "studyInstanceUID": study,
        "SeriesRequest": [{
            "seriesInstanceUID": uid,
            "DocumentRequest": [{"RepositoryUniqueId": repository, "DocumentUniqueId": instance} for instance in instances],
        } for uid, instances in series],
    }]
    response = repo["DocumentRepository_RetrieveImagingDocumentSet"](
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
