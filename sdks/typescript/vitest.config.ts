import { defineConfig } from "vitest/config";

export default defineConfig({
  test: {
    projects: [
      // No server needed.
      { test: { name: "unit", include: ["tests/**/*.test.ts"], restoreMocks: true } },
      // Run by pytest (tests/typescript), which starts a noburn and a provider double and says where they are.
      {
        test: {
          name: "live",
          include: ["live/**/*.test.ts"],
          testTimeout: 120_000,
          hookTimeout: 120_000,
          restoreMocks: true,
        },
      },
    ],
  },
});
