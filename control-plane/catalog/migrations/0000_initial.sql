CREATE TABLE "backup_leans" (
	"backup_id" text NOT NULL,
	"base_id" text NOT NULL,
	CONSTRAINT "backup_leans_backup_id_base_id_pk" PRIMARY KEY("backup_id","base_id")
);
--> statement-breakpoint
CREATE TABLE "backups" (
	"id" text PRIMARY KEY NOT NULL,
	"source_id" text NOT NULL,
	"host" text NOT NULL,
	"source" text NOT NULL,
	"engine" text NOT NULL,
	"type" text NOT NULL,
	"status" text NOT NULL,
	"target" text NOT NULL,
	"job_id" text,
	"description" text,
	"parts" jsonb DEFAULT '[]'::jsonb NOT NULL,
	"created_at" timestamp with time zone NOT NULL,
	"finished_at" timestamp with time zone,
	"size_bytes" bigint,
	"stored_bytes" bigint,
	"total_count" bigint,
	"sequence" integer,
	"attempt" integer,
	"manifest_sha256" "bytea",
	"manifest" "bytea",
	"committed_at" timestamp with time zone,
	"recipients" jsonb,
	"valid" boolean,
	"validated_at" timestamp with time zone,
	"verified_at" timestamp with time zone,
	"verified_by" text,
	"test_restored_at" timestamp with time zone,
	"test_restored_by" text,
	"pinned_at" timestamp with time zone,
	"pinned_by" text,
	"retired_at" timestamp with time zone,
	"withdrawn_at" timestamp with time zone,
	"removal_reason" text,
	"tombstoned_at" timestamp with time zone,
	"keys_destroyed_at" timestamp with time zone,
	"removed_at" timestamp with time zone,
	CONSTRAINT "backups_status" CHECK (status in ('running', 'good', 'failed', 'expired'))
);
--> statement-breakpoint
CREATE TABLE "copies" (
	"backup_id" text NOT NULL,
	"target" text NOT NULL,
	"state" text NOT NULL,
	"good_at" timestamp with time zone,
	"checked_at" timestamp with time zone,
	CONSTRAINT "copies_backup_id_target_pk" PRIMARY KEY("backup_id","target")
);
--> statement-breakpoint
CREATE TABLE "objects" (
	"backup_id" text NOT NULL,
	"name" text NOT NULL,
	"attempt" integer NOT NULL,
	"size" bigint NOT NULL,
	"sha256" "bytea" NOT NULL,
	"address_expires_at" timestamp with time zone NOT NULL,
	"confirmed_at" timestamp with time zone,
	"damaged_at" timestamp with time zone,
	"verified_at" timestamp with time zone,
	"verified_by" text,
	CONSTRAINT "objects_backup_id_name_pk" PRIMARY KEY("backup_id","name")
);
--> statement-breakpoint
CREATE TABLE "verifications" (
	"id" text PRIMARY KEY NOT NULL,
	"backup_id" text NOT NULL,
	"kind" text NOT NULL,
	"job_id" text,
	"by" text NOT NULL,
	"started_at" timestamp with time zone NOT NULL,
	"finished_at" timestamp with time zone NOT NULL,
	"valid" boolean NOT NULL,
	"errors" jsonb NOT NULL,
	"detail" jsonb NOT NULL
);
--> statement-breakpoint
CREATE TABLE "agents" (
	"id" text PRIMARY KEY NOT NULL,
	"name" text NOT NULL,
	"state" text NOT NULL,
	"state_reason" text,
	"age_recipient" text NOT NULL,
	"labels" jsonb DEFAULT '{}'::jsonb NOT NULL,
	"version" text,
	"os" text,
	"arch" text,
	"clock_offset_ms" bigint,
	"session_epoch" bigint DEFAULT 0 NOT NULL,
	"generation" integer DEFAULT 0 NOT NULL,
	"created_at" timestamp with time zone NOT NULL,
	"last_seen_at" timestamp with time zone,
	CONSTRAINT "agents_state" CHECK (state in ('active', 'suspended', 'revoked', 'replaced'))
);
--> statement-breakpoint
CREATE TABLE "certificates" (
	"serial" text PRIMARY KEY NOT NULL,
	"agent_id" text NOT NULL,
	"generation" integer NOT NULL,
	"public_key_sha256" "bytea" NOT NULL,
	"pem" text NOT NULL,
	"not_before" timestamp with time zone NOT NULL,
	"not_after" timestamp with time zone NOT NULL,
	"revoked_at" timestamp with time zone,
	"revoked_reason" text
);
--> statement-breakpoint
CREATE TABLE "enrolment_tokens" (
	"id" text PRIMARY KEY NOT NULL,
	"token_sha256" "bytea" NOT NULL,
	"name" text NOT NULL,
	"replace" boolean DEFAULT false NOT NULL,
	"created_by" text NOT NULL,
	"created_at" timestamp with time zone NOT NULL,
	"expires_at" timestamp with time zone NOT NULL,
	"used_at" timestamp with time zone,
	"public_key_sha256" "bytea",
	"agent_id" text,
	"certificate_serial" text,
	CONSTRAINT "enrolment_tokens_token_sha256_unique" UNIQUE("token_sha256")
);
--> statement-breakpoint
CREATE TABLE "fleet" (
	"row" integer PRIMARY KEY NOT NULL,
	"id" text NOT NULL,
	"recovery_recipients" jsonb NOT NULL,
	"created_at" timestamp with time zone NOT NULL
);
--> statement-breakpoint
CREATE TABLE "fleet_keys" (
	"name" text PRIMARY KEY NOT NULL,
	"public_part" text NOT NULL,
	"protected_part" jsonb NOT NULL,
	"recovery_part" text NOT NULL,
	"created_at" timestamp with time zone NOT NULL
);
--> statement-breakpoint
CREATE TABLE "instances" (
	"id" text PRIMARY KEY NOT NULL,
	"started_at" timestamp with time zone NOT NULL,
	"heartbeat_at" timestamp with time zone NOT NULL
);
--> statement-breakpoint
CREATE TABLE "renewal_nonces" (
	"nonce_sha256" "bytea" PRIMARY KEY NOT NULL,
	"certificate_serial" text NOT NULL,
	"expires_at" timestamp with time zone NOT NULL,
	"used_at" timestamp with time zone
);
--> statement-breakpoint
CREATE TABLE "sessions" (
	"agent_id" text NOT NULL,
	"epoch" bigint NOT NULL,
	"instance_id" text NOT NULL,
	"agent_instance" text NOT NULL,
	"certificate_serial" text NOT NULL,
	"connected_at" timestamp with time zone NOT NULL,
	"heartbeat_at" timestamp with time zone NOT NULL,
	"ended_at" timestamp with time zone,
	"end_reason" text,
	CONSTRAINT "sessions_agent_id_epoch_pk" PRIMARY KEY("agent_id","epoch")
);
--> statement-breakpoint
CREATE TABLE "job_attempts" (
	"job_id" text NOT NULL,
	"attempt" integer NOT NULL,
	"agent_id" text NOT NULL,
	"epoch" bigint NOT NULL,
	"instance_id" text NOT NULL,
	"dispatched_at" timestamp with time zone NOT NULL,
	"accepted_at" timestamp with time zone,
	"ended_at" timestamp with time zone,
	"outcome" text,
	"error_code" text,
	"error_message" text,
	"end_confirmed" boolean DEFAULT false NOT NULL,
	CONSTRAINT "job_attempts_job_id_attempt_pk" PRIMARY KEY("job_id","attempt")
);
--> statement-breakpoint
CREATE TABLE "job_events" (
	"id" bigserial PRIMARY KEY NOT NULL,
	"job_id" text NOT NULL,
	"attempt" integer NOT NULL,
	"at" timestamp with time zone NOT NULL,
	"type" text NOT NULL,
	"number" bigint,
	"data" jsonb NOT NULL
);
--> statement-breakpoint
CREATE TABLE "job_unlocks" (
	"job_id" text PRIMARY KEY NOT NULL,
	"attempt" integer NOT NULL,
	"recipient" text NOT NULL,
	"asked_at" timestamp with time zone NOT NULL,
	"expires_at" timestamp with time zone NOT NULL,
	"unlocked_at" timestamp with time zone,
	"unlocked_by" text,
	"files" jsonb
);
--> statement-breakpoint
CREATE TABLE "jobs" (
	"id" text PRIMARY KEY NOT NULL,
	"kind" text NOT NULL,
	"state" text NOT NULL,
	"agent_id" text NOT NULL,
	"source_id" text,
	"backup_id" text,
	"spec" jsonb NOT NULL,
	"attempt" integer DEFAULT 0 NOT NULL,
	"max_attempts" integer NOT NULL,
	"not_before" timestamp with time zone NOT NULL,
	"deadline_seconds" integer NOT NULL,
	"lease_until" timestamp with time zone,
	"requested_by" text NOT NULL,
	"policy" text,
	"created_at" timestamp with time zone NOT NULL,
	"started_at" timestamp with time zone,
	"finished_at" timestamp with time zone,
	"progress" jsonb,
	"error_code" text,
	"error_message" text,
	"error_hint" text,
	"detail" jsonb,
	"cancel_requested_at" timestamp with time zone,
	"cancel_reason" text,
	"writes_place" text,
	CONSTRAINT "jobs_state" CHECK (state in ('queued','dispatched','running','committing','validating','succeeded','failed','cancelled','lost'))
);
--> statement-breakpoint
CREATE TABLE "api_keys" (
	"id" text PRIMARY KEY NOT NULL,
	"name" text NOT NULL,
	"secret_sha256" "bytea" NOT NULL,
	"role" text NOT NULL,
	"sources" jsonb NOT NULL,
	"created_by" text NOT NULL,
	"created_at" timestamp with time zone NOT NULL,
	"expires_at" timestamp with time zone,
	"revoked_at" timestamp with time zone,
	"last_used_at" timestamp with time zone,
	CONSTRAINT "api_keys_secret_sha256_unique" UNIQUE("secret_sha256")
);
--> statement-breakpoint
CREATE TABLE "audit_entries" (
	"sequence" bigint PRIMARY KEY NOT NULL,
	"at" timestamp with time zone NOT NULL,
	"actor" text NOT NULL,
	"action" text NOT NULL,
	"subject" text NOT NULL,
	"outcome" text NOT NULL,
	"detail" jsonb NOT NULL,
	"previous_hash" "bytea" NOT NULL,
	"hash" "bytea" NOT NULL
);
--> statement-breakpoint
CREATE TABLE "audit_head" (
	"row" integer PRIMARY KEY NOT NULL,
	"sequence" bigint NOT NULL,
	"hash" "bytea" NOT NULL
);
--> statement-breakpoint
CREATE TABLE "idempotency_keys" (
	"api_key_id" text NOT NULL,
	"key" text NOT NULL,
	"request_sha256" "bytea" NOT NULL,
	"status" integer,
	"response" jsonb,
	"created_at" timestamp with time zone NOT NULL,
	CONSTRAINT "idempotency_keys_api_key_id_key_pk" PRIMARY KEY("api_key_id","key")
);
--> statement-breakpoint
CREATE TABLE "occurrences" (
	"policy" text NOT NULL,
	"source_id" text NOT NULL,
	"due_at" timestamp with time zone NOT NULL,
	"type" text NOT NULL,
	"outcome" text NOT NULL,
	"job_id" text,
	"created_at" timestamp with time zone NOT NULL,
	CONSTRAINT "occurrences_policy_source_id_due_at_pk" PRIMARY KEY("policy","source_id","due_at")
);
--> statement-breakpoint
CREATE TABLE "policies" (
	"name" text PRIMARY KEY NOT NULL,
	"spec" jsonb NOT NULL,
	"revision" integer NOT NULL,
	"schedule_since" timestamp with time zone NOT NULL,
	"created_at" timestamp with time zone NOT NULL,
	"updated_at" timestamp with time zone NOT NULL
);
--> statement-breakpoint
CREATE TABLE "sources" (
	"id" text PRIMARY KEY NOT NULL,
	"agent_id" text NOT NULL,
	"host" text NOT NULL,
	"name" text NOT NULL,
	"engine" text NOT NULL,
	"labels" jsonb DEFAULT '{}'::jsonb NOT NULL,
	"facts" jsonb DEFAULT '{}'::jsonb NOT NULL,
	"present" boolean DEFAULT true NOT NULL,
	"sequence" integer DEFAULT 0 NOT NULL,
	"fall_accepted_at" timestamp with time zone,
	"created_at" timestamp with time zone NOT NULL,
	"last_seen_at" timestamp with time zone NOT NULL
);
--> statement-breakpoint
CREATE TABLE "targets" (
	"name" text PRIMARY KEY NOT NULL,
	"kind" text NOT NULL,
	"config" jsonb NOT NULL,
	"facts" jsonb,
	"probed_at" timestamp with time zone,
	"created_at" timestamp with time zone NOT NULL
);
--> statement-breakpoint
ALTER TABLE "backup_leans" ADD CONSTRAINT "backup_leans_backup_id_backups_id_fk" FOREIGN KEY ("backup_id") REFERENCES "public"."backups"("id") ON DELETE no action ON UPDATE no action;--> statement-breakpoint
ALTER TABLE "backup_leans" ADD CONSTRAINT "backup_leans_base_id_backups_id_fk" FOREIGN KEY ("base_id") REFERENCES "public"."backups"("id") ON DELETE no action ON UPDATE no action;--> statement-breakpoint
ALTER TABLE "backups" ADD CONSTRAINT "backups_source_id_sources_id_fk" FOREIGN KEY ("source_id") REFERENCES "public"."sources"("id") ON DELETE no action ON UPDATE no action;--> statement-breakpoint
ALTER TABLE "copies" ADD CONSTRAINT "copies_backup_id_backups_id_fk" FOREIGN KEY ("backup_id") REFERENCES "public"."backups"("id") ON DELETE no action ON UPDATE no action;--> statement-breakpoint
ALTER TABLE "objects" ADD CONSTRAINT "objects_backup_id_backups_id_fk" FOREIGN KEY ("backup_id") REFERENCES "public"."backups"("id") ON DELETE no action ON UPDATE no action;--> statement-breakpoint
ALTER TABLE "verifications" ADD CONSTRAINT "verifications_backup_id_backups_id_fk" FOREIGN KEY ("backup_id") REFERENCES "public"."backups"("id") ON DELETE no action ON UPDATE no action;--> statement-breakpoint
ALTER TABLE "certificates" ADD CONSTRAINT "certificates_agent_id_agents_id_fk" FOREIGN KEY ("agent_id") REFERENCES "public"."agents"("id") ON DELETE no action ON UPDATE no action;--> statement-breakpoint
ALTER TABLE "enrolment_tokens" ADD CONSTRAINT "enrolment_tokens_agent_id_agents_id_fk" FOREIGN KEY ("agent_id") REFERENCES "public"."agents"("id") ON DELETE no action ON UPDATE no action;--> statement-breakpoint
ALTER TABLE "enrolment_tokens" ADD CONSTRAINT "enrolment_tokens_certificate_serial_certificates_serial_fk" FOREIGN KEY ("certificate_serial") REFERENCES "public"."certificates"("serial") ON DELETE no action ON UPDATE no action;--> statement-breakpoint
ALTER TABLE "sessions" ADD CONSTRAINT "sessions_agent_id_agents_id_fk" FOREIGN KEY ("agent_id") REFERENCES "public"."agents"("id") ON DELETE no action ON UPDATE no action;--> statement-breakpoint
ALTER TABLE "job_attempts" ADD CONSTRAINT "job_attempts_job_id_jobs_id_fk" FOREIGN KEY ("job_id") REFERENCES "public"."jobs"("id") ON DELETE no action ON UPDATE no action;--> statement-breakpoint
ALTER TABLE "job_events" ADD CONSTRAINT "job_events_job_id_jobs_id_fk" FOREIGN KEY ("job_id") REFERENCES "public"."jobs"("id") ON DELETE no action ON UPDATE no action;--> statement-breakpoint
ALTER TABLE "job_unlocks" ADD CONSTRAINT "job_unlocks_job_id_jobs_id_fk" FOREIGN KEY ("job_id") REFERENCES "public"."jobs"("id") ON DELETE no action ON UPDATE no action;--> statement-breakpoint
ALTER TABLE "jobs" ADD CONSTRAINT "jobs_agent_id_agents_id_fk" FOREIGN KEY ("agent_id") REFERENCES "public"."agents"("id") ON DELETE no action ON UPDATE no action;--> statement-breakpoint
ALTER TABLE "jobs" ADD CONSTRAINT "jobs_source_id_sources_id_fk" FOREIGN KEY ("source_id") REFERENCES "public"."sources"("id") ON DELETE no action ON UPDATE no action;--> statement-breakpoint
ALTER TABLE "occurrences" ADD CONSTRAINT "occurrences_source_id_sources_id_fk" FOREIGN KEY ("source_id") REFERENCES "public"."sources"("id") ON DELETE no action ON UPDATE no action;--> statement-breakpoint
ALTER TABLE "sources" ADD CONSTRAINT "sources_agent_id_agents_id_fk" FOREIGN KEY ("agent_id") REFERENCES "public"."agents"("id") ON DELETE no action ON UPDATE no action;--> statement-breakpoint
CREATE INDEX "backup_leans_base" ON "backup_leans" USING btree ("base_id");--> statement-breakpoint
CREATE UNIQUE INDEX "backups_sequence" ON "backups" USING btree ("source_id","sequence") WHERE sequence is not null;--> statement-breakpoint
CREATE INDEX "backups_source" ON "backups" USING btree ("source_id","created_at");--> statement-breakpoint
CREATE INDEX "backups_created" ON "backups" USING btree ("created_at");--> statement-breakpoint
CREATE INDEX "backups_to_withdraw" ON "backups" USING btree ("created_at") WHERE status = 'failed' and manifest_sha256 is not null and withdrawn_at is null;--> statement-breakpoint
CREATE UNIQUE INDEX "agents_name_in_use" ON "agents" USING btree ("name") WHERE state in ('active', 'suspended');--> statement-breakpoint
CREATE UNIQUE INDEX "certificates_generation" ON "certificates" USING btree ("agent_id","generation");--> statement-breakpoint
CREATE INDEX "sessions_open" ON "sessions" USING btree ("instance_id") WHERE ended_at is null;--> statement-breakpoint
CREATE INDEX "job_events_job" ON "job_events" USING btree ("job_id","id");--> statement-breakpoint
CREATE UNIQUE INDEX "job_events_once" ON "job_events" USING btree ("job_id","attempt","type","number");--> statement-breakpoint
CREATE INDEX "jobs_unfinished" ON "jobs" USING btree ("agent_id","state","not_before") WHERE finished_at is null;--> statement-breakpoint
CREATE INDEX "jobs_created" ON "jobs" USING btree ("created_at");--> statement-breakpoint
CREATE UNIQUE INDEX "jobs_one_backup_a_source" ON "jobs" USING btree ("source_id") WHERE kind = 'backup' and finished_at is null;--> statement-breakpoint
CREATE UNIQUE INDEX "jobs_one_writer_a_place" ON "jobs" USING btree ("writes_place") WHERE writes_place is not null and finished_at is null;--> statement-breakpoint
CREATE UNIQUE INDEX "sources_full_name" ON "sources" USING btree ("host","name");