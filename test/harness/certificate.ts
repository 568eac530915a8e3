import 'reflect-metadata'
import { createHash, randomBytes, webcrypto } from 'node:crypto'
import { SubjectAlternativeNameExtension, X509CertificateGenerator } from '@peculiar/x509'
import { Secret } from '../../shared/secret.ts'

export interface TestCertificate {
  /** PEM, PKCS #8. */
  readonly key: Secret
  /** PEM. */
  readonly cert: string
  /** Of the DER. */
  readonly sha256: Buffer
}

/** A certificate for 127.0.0.1 and localhost that signs itself, for servers of tests. */
export async function selfSigned(): Promise<TestCertificate> {
  const signingAlgorithm = { name: 'ECDSA', namedCurve: 'P-256', hash: 'SHA-256' } as const
  const keys = (await webcrypto.subtle.generateKey(signingAlgorithm, true, ['sign', 'verify'])) as webcrypto.CryptoKeyPair
  const certificate = await X509CertificateGenerator.createSelfSigned({
    serialNumber: randomBytes(8).toString('hex'),
    name: 'CN=localhost',
    notBefore: new Date(Date.now() - 3_600_000),
    notAfter: new Date(Date.now() + 86_400_000),
    keys,
    signingAlgorithm,
    extensions: [
      new SubjectAlternativeNameExtension([
        { type: 'dns', value: 'localhost' },
        { type: 'ip', value: '127.0.0.1' },
      ]),
    ],
  })
  const der = Buffer.from(await webcrypto.subtle.exportKey('pkcs8', keys.privateKey)).toString('base64')
  return {
    key: new Secret(`-----BEGIN PRIVATE KEY-----\n${der.replace(/.{64}/g, '$&\n')}\n-----END PRIVATE KEY-----\n`),
    cert: certificate.toString('pem'),
    sha256: createHash('sha256').update(Buffer.from(certificate.rawData)).digest(),
  }
}
