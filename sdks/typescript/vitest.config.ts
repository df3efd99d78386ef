import { defineConfig } from "vitest/config";

export default defineConfig({
  test: {
    projects: [
      // No server needed.
      { test: { name: "unit", include: ["tests/**/*.test.ts"], restoreMocks: true } },
      // Run by pytest (tests/typescript), which starts a noburn and a provider double and says where they are.
      {
        // The examples import the package by its name.
        resolve: {
          alias: {
            "@noburn/sdk/ai": new URL("src/integrations/ai/index.ts", import.meta.url).pathname,
            "@noburn/sdk": new URL("src/index.ts", import.meta.url).pathname,
          },
        },
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
