/** Writes the files of this folder that are made from src/config/schema.ts: `bun config/write.ts`. A test compares them. */
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { exampleYaml, jsonSchema } from "../src/config/documents.ts";

writeFileSync(join(import.meta.dirname, "replicator.example.yaml"), exampleYaml());
writeFileSync(join(import.meta.dirname, "replicator.schema.json"), `${JSON.stringify(jsonSchema(), null, 2)}\n`);
