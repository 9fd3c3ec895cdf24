// SPDX-License-Identifier: Apache-2.0
// The `@nats-io/transport-node` 3.x library. Argument: see secure.js.
import * as lib from "@nats-io/transport-node";
import { run } from "./secure.js";

await run(
  lib,
  (error) => [error, error.cause].some((e) => e instanceof lib.errors.AuthorizationError),
  ({ error }) =>
    error instanceof lib.errors.PermissionViolationError
      ? [error.operation, error.subject, error.queue].filter(Boolean).join(" ")
      : null,
);
