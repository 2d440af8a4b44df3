// Validates AsyncAPI documents by the official parser and by the official JSON Schema. Paths of documents are arguments.
"use strict";
const fs = require("node:fs");
const path = require("node:path");

// 3.0 is what is written: tools read it, and 3.1 adds nothing that is used.
const IGNORED = new Set(["asyncapi-latest-version"]);

async function main(folder, files) {
  const { createRequire } = require("node:module");
  const load = createRequire(path.join(folder, "package.json"));
  const { Parser } = load("@asyncapi/parser");
  const specs = load("@asyncapi/specs");
  const Ajv = load("ajv");
  const addFormats = load("ajv-formats");
  const schema = specs.schemas["3.0.0"];
  const ajv = new Ajv({ strict: false, allErrors: true, meta: false, validateSchema: false });
  addFormats(ajv);
  const check = ajv.compile(schema);
  const parser = new Parser();
  const found = {};
  for (const file of files) {
    const text = fs.readFileSync(file, "utf8");
    const { document, diagnostics } = await parser.parse(text);
    const faults = diagnostics
      .filter((one) => one.severity < 3 && !IGNORED.has(one.code))
      .map((one) => `${one.code} ${one.path.join(".")}: ${one.message}`);
    if (!document) faults.push("the parser gave no document");
    if (file.endsWith(".json") && !check(JSON.parse(text)))
      faults.push(...check.errors.map((one) => `schema ${one.instancePath}: ${one.message}`));
    found[file] = faults;
  }
  process.stdout.write(JSON.stringify(found));
}

main(process.argv[2], process.argv.slice(3)).catch((error) => {
  process.stderr.write(String(error.stack || error));
  process.exit(1);
});
