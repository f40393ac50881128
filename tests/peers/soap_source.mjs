// ITI-41 by node-soap with MTOM: soap_source.mjs WSDL GATEWAY WORLD MAKE_ASSERTION PATIENT_CX SUBMISSION DOCUMENT
// SUBMISSION is a file with the lcm:SubmitObjectsRequest; DOCUMENT a file. Prints status and errors of the RegistryResponse.
import { execFileSync } from 'node:child_process'
import { randomUUID } from 'node:crypto'
import { readFileSync } from 'node:fs'
import https from 'node:https'
import { createRequire } from 'node:module'

const require = createRequire(process.env.IDR_PEERS_NODE + '/')
const soap = require('soap')

const [wsdl, gateway, world, makeAssertion, patient, submissionFile, documentFile] = process.argv.slice(2)
const ACTION = 'urn:ihe:iti:2007:ProvideAndRegisterDocumentSet-b'
const objects = readFileSync(submissionFile, 'utf8')
const entry = /<rim:ExtrinsicObject [^>]*id="([^"]+)"/.exec(objects)[1]
const read = (name) => readFileSync(`${world}/keys/${name}`)
const agent = new https.Agent({ ca: read('tls-ca.pem'), cert: read('pacs.pem'), key: read('pacs.key') })

const client = await soap.createClientAsync(wsdl, { forceSoap12Headers: true })
client.setEndpoint(gateway)
client.setSecurity({ addOptions: (options) => { options.httpsAgent = agent; options.proxy = false }, toXML: () => '', addHeaders: () => {} })
const wsa = 'xmlns:wsa="http://www.w3.org/2005/08/addressing"'
client.addSoapHeader(`<wsa:Action ${wsa} soap:mustUnderstand="1">${ACTION}</wsa:Action>`)
client.addSoapHeader(`<wsa:MessageID ${wsa}>urn:uuid:${randomUUID()}</wsa:MessageID>`)
client.addSoapHeader(`<wsa:ReplyTo ${wsa}><wsa:Address>http://www.w3.org/2005/08/addressing/anonymous</wsa:Address></wsa:ReplyTo>`)
client.addSoapHeader(`<wsa:To ${wsa}>${gateway}</wsa:To>`)
const security = execFileSync(makeAssertion, ['--world', world, '--patient', patient, '--form', 'security', '--kind', 'technical'], { encoding: 'utf8' })
client.addSoapHeader(security.trim())

const content = objects +
  `<xdsb:Document xmlns:xdsb="urn:ihe:iti:xds-b:2007" id="${entry}"><xop:Include xmlns:xop="http://www.w3.org/2004/08/xop/include" href="cid:document@peer"/></xdsb:Document>`
const request = { _xml: `<xdsb:ProvideAndRegisterDocumentSetRequest xmlns:xdsb="urn:ihe:iti:xds-b:2007">${content}</xdsb:ProvideAndRegisterDocumentSetRequest>` }
const options = {
  forceMTOM: true,
  attachments: [{ name: 'document', contentId: 'document@peer', mimetype: 'application/pdf', body: readFileSync(documentFile) }],
}
const service = Object.values(client.wsdl.definitions.services)[0]
const port = Object.keys(service.ports)[0]
const [, raw] = await new Promise((resolve, reject) => {
  const method = client[Object.keys(client.wsdl.definitions.services)[0]][port]['DocumentRepository_ProvideAndRegisterDocumentSet-b']
  method(request, (error, result, raw) => {
    if (error && !raw) return reject(error)
    resolve([result, String(raw ?? error?.response?.data)])
  }, options)
})
console.log(JSON.stringify({
  status: /RegistryResponse[^>]* status="([^"]+)"/.exec(raw)?.[1] ?? null,
  errors: [...raw.matchAll(/codeContext="([^"]+)"/g)].map((match) => match[1]),
  fault: /<env:Text[^>]*>([^<]+)/.exec(raw)?.[1] ?? null,
  refusal: /Refusal[^>]* code="([^"]+)"/.exec(raw)?.[1] ?? null,
}))
