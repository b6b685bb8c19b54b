// Svelte with runes only; TypeScript in components is plain type syntax and needs no preprocessor.
export default { compilerOptions: { runes: true } };
