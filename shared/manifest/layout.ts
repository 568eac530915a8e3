/** Where the objects of a backup lie, relative to the target. */
export interface BackupPlaceRef {
  readonly host: string
  readonly source: string
  /** stamp-id */
  readonly id: string
}

export const FLEET_OBJECT = 'holdfast.json'

export const sourceFolder = (ref: { host: string; source: string }): string => `${ref.host}/${ref.source}/`
export const backupFolder = (ref: BackupPlaceRef): string => `${ref.host}/${ref.source}/${ref.id}/`
export const manifestKey = (ref: BackupPlaceRef): string => `${backupFolder(ref)}manifest.json`
export const objectKey = (ref: BackupPlaceRef, name: string): string => backupFolder(ref) + name

/** Objects of one attempt: another attempt, dead or alive, never has the same, and nothing can be overwritten. */
export const contentsName = (attempt: number): string => `contents/${attempt}`
export const indexName = (attempt: number): string => `index/${attempt}`
export const keysName = (attempt: number): string => `keys/${attempt}`
