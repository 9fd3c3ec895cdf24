// SPDX-License-Identifier: Apache-2.0
// The `nats` 2.x library. Argument: see secure.js.
import * as lib from "nats";
import { run } from "./secure.js";

await run(
  lib,
  (error) => error.code === lib.ErrorCode.AuthorizationViolation,
  ({ data, permissionContext: context }) =>
    data === lib.ErrorCode.PermissionsViolation && context
      ? [context.operation, context.subject, context.queue].filter(Boolean).join(" ")
      : null,
);
