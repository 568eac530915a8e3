import { defineConfig } from 'drizzle-kit'

export default defineConfig({
  dialect: 'postgresql',
  schema: './control-plane/catalog/schema/*.ts',
  out: './control-plane/catalog/migrations',
})
