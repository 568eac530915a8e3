import type { SignedRequest } from '../../shared/generated/holdfast/agent/v1/objects.ts'
import type { SignedAddress } from '../../shared/storage/target.ts'

export function wireAddress(address: SignedAddress, alreadyStored = false): SignedRequest {
  return {
    method: address.method,
    url: address.url,
    headers: { ...address.headers },
    validSeconds: Math.floor(address.validSeconds),
    serverCertificateSha256: address.serverCertificateSha256 ?? Buffer.alloc(0),
    alreadyStored,
    localSocket: address.localSocket ?? '',
  }
}
