// A program of its own that migrates one image: it is killed while it does. Arguments: catalogue, image, datastore.
import { openCatalogue } from '../../../core/catalogue/catalogue.ts';
import { migrate } from '../../../core/catalogue/migrate.ts';
import { silentJob } from '../../../core/job.ts';

const [file = '', image = '', datastore = ''] = process.argv.slice(2);
const catalogue = openCatalogue(file);
process.stdout.write('begin\n');
await migrate(catalogue, { image, datastore, folder: '.', format: null, chain: false }, silentJob);
catalogue.close();
